"""The directive `commands`: every command and option of the command line, read off its argparse parser."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import Any
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PREFIX = "FASTMLP_"
COLUMNS = "100"  # of the usage lines


class _Echo(dict[str, str]):
    """An environment in which every variable of ours holds its own name: a default then tells where it came from."""

    def get(self, name: str, default: Any = None) -> Any:
        return name if name.startswith(PREFIX) else super().get(name, default)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command; the default of an option that can stand in the environment is its variable."""
    from fastmlp.cli_parser import build_parser

    with mock.patch("os.environ", _Echo(os.environ)):
        parser = build_parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return dict(commands.choices)


class Commands(SphinxDirective):
    """A section a command: what it does, its usage, and a definition of every option."""

    def run(self) -> list[nodes.Node]:
        lines = (line for name, parser in parsers().items() for line in _section(name, parser))
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _section(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from (f"## fastmlp {name}", "", parser.description or "", "", *_usage(parser))
    yield from (f":::{{program}} fastmlp {name}", ":::", "")
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
        if shown:
            yield from (f"**{_title(group.title or '')}**", "")
            for action in shown:
                yield from _option(parser, action)


def _usage(parser: argparse.ArgumentParser) -> Iterator[str]:
    with mock.patch.dict(os.environ, COLUMNS=COLUMNS):
        usage = parser.format_usage().removeprefix("usage: ").rstrip()
    yield from ("```text", *(line.removeprefix("       ") for line in usage.splitlines()), "```", "")


def _title(title: str) -> str:
    return title[:1].upper() + title[1:]


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> Iterator[str]:
    names = action.option_strings or [""]
    value = _value(action)
    yield f":::{{option}} {', '.join(f'{name} {value}'.strip() for name in names)}"
    yield (parser._get_formatter()._expand_help(action) if action.help else "").strip()
    if isinstance(action.default, str) and action.default.startswith(PREFIX):
        yield f"[`{action.default}`]"
    yield from (":::", "")


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    metavar = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    return f"{metavar} ..." if action.nargs == "+" else str(metavar)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("commands", Commands)
    return {"version": "1", "parallel_read_safe": True}
