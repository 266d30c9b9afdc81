"""The argument parser of which the command line is made."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from fastmlp.common.errors import did_you_mean
from fastmlp.common.progress import printable

HELP_COLUMN = 28


class Parser(argparse.ArgumentParser):
    """A parser that takes options by their whole names only: what is short today may mean another one tomorrow.

    Its errors repeat no escape codes: an argument it rejects may be the name of somebody's file.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_formatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """As argparse's, which names no similar choice."""
        if action.choices is not None and value not in action.choices:
            near, names = did_you_mean(value, action.choices), ", ".join(action.choices)
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}{near} (choose from {names})")


def _formatter(prog: str) -> argparse.HelpFormatter:
    """A formatter that leaves examples as they are."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=HELP_COLUMN)
