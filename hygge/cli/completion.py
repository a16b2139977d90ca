"""`hygge completion bash`: what makes a shell complete commands, options, files and flows."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the arguments of `hygge completion`."""
    command.add_argument("shell", choices=SHELLS, help="the shell that you use")


def run(arguments: argparse.Namespace) -> int:
    """Print the script that the shell reads when it starts; return the exit code."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["hygge"], shell=arguments.shell), flush=True)
    return 0
