"""`python -m scripts.site [FOLDER]` builds the site of the documentation, and checks its links."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from scripts.site.check import faults
from scripts.site.cli_page import cli_page
from scripts.site.pages import CONFIG, ROOT, listed, pages


def main() -> int:
    """Write the pages, build the site in `FOLDER/site`, check it; 1 where something is wrong."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"
    shutil.rmtree(folder, ignore_errors=True)
    written = pages() | {"cli.md": cli_page()}
    for path, text in written.items():
        file = folder / "docs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    shutil.copyfile(CONFIG, folder / "zensical.toml")
    wrong = [f"{path} is not in the navigation" for path in sorted(set(written) - set(listed()))]
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(  # noqa: S603
        command, cwd=folder, check=False, capture_output=True, text=True
    )
    if built.returncode:
        wrong.append((built.stdout + built.stderr).strip())
    else:
        wrong += faults(folder / "site")
    for line in wrong:
        print(line, file=sys.stderr)
    print(f"{len(written)} pages, {len(wrong)} faults: {folder / 'site' / 'index.html'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
