"""The command line.  Commands are imported when they are called: ``--help`` stays fast."""

from __future__ import annotations

from graphopt.cli.main import main

__all__ = ["main"]
