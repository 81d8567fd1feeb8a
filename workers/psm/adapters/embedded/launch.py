"""Become another program that ends when its parent does. Run as a script, never imported.

    python -I -S launch.py PARENT_PID SIGNAL USER_ID GROUP_ID PROGRAM [ARGUMENT ...]

A script of its own rather than `preexec_fn`: running Python between fork and exec can deadlock
when the parent has threads, and Python 3.12 warns about it. It starts with the rights of the
parent, so that the interpreter itself need not be readable for the other user, and drops them.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_KEEP = -1


def main(arguments: list[str]) -> None:
    """Drop rights, ask the kernel for a signal at the parent's end, become the program."""
    parent, number, user, group = (int(text) for text in arguments[:4])
    if user != _KEEP:
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    if sys.platform == "linux":
        # After setuid: a change of user clears the request.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel knew
            os._exit(128 + signal.SIGTERM)
    program = arguments[4]
    os.execv(program, arguments[4:])  # noqa: S606 - no shell on purpose


if __name__ == "__main__":
    main(sys.argv[1:])
