"""How a command says that it cannot do what it was asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class CommandFailed(Exception):
    """`code` is the exit code: 1, or 2 when the command line is wrong."""

    message: str
    code: int = 1

    def __str__(self) -> str:
        return self.message
