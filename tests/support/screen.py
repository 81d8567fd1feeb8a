"""A pseudo terminal, for what behaves differently where a person looks on."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

END_S = 60.0


class Screen:
    """What a program writes to its terminal; read all the time, or the program would wait."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.text = ""
        self._master = master
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def await_text(self, wanted: str) -> None:
        deadline = time.monotonic() + END_S
        while wanted not in self.text:
            assert self._reader.is_alive(), self.text
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)

    def await_end(self) -> int:
        """Return the exit code; then `text` is all that it wrote."""
        code = self.process.wait(END_S)
        self._reader.join(END_S)
        return code

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # Linux's way to say that the last writer is gone
                return
            self.text += data.decode(errors="replace")


@contextmanager
def on_terminal(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    size: tuple[int, int] = (40, 120),
) -> Iterator[Screen]:
    """Run a command on a terminal of so many lines and columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    with subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", **(environment or {})},
        start_new_session=True,
    ) as process:
        os.close(slave)
        screen = Screen(process, master)
        try:
            yield screen
        finally:
            if process.poll() is None:
                process.terminate()
            screen.await_end()
            os.close(master)
