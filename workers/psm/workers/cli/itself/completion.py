"""`psm completion`: shell completion for bash, zsh and fish."""

from __future__ import annotations

from typing import Literal


def completion(shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print the completion script of a shell.

    `psm completion bash > ~/.local/share/bash-completion/completions/psm`,
    `psm completion zsh > ~/.zfunc/_psm`,
    `psm completion fish > ~/.config/fish/completions/psm.fish`

    Args:
        shell: bash, zsh or fish.
    """
    from psm.workers.cli import build

    print(build().generate_completion(shell=shell))
