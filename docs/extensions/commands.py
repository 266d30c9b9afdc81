"""The directive `commands`: every command, example and option of the command line, read off its argparse parser."""

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
EXAMPLES = "examples:"  # how an epilog of them begins


class _Echo(dict[str, str]):
    """An environment in which every variable of ours holds its own name: a default then tells where it came from."""

    def get(self, name: str, default: Any = None) -> Any:
        return name if name.startswith(PREFIX) else super().get(name, default)


def parsers() -> list[argparse.ArgumentParser]:
    """The parser of each command, then of `fastmlp` itself; options that may stand in the environment default to it."""
    from fastmlp.cli.parser import build_parser

    with mock.patch("os.environ", _Echo(os.environ)):
        parser = build_parser()
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return [*commands.choices.values(), parser]


class Commands(SphinxDirective):
    """A section a command: what it does, examples, and a definition of every option."""

    def run(self) -> list[nodes.Node]:
        self.env.note_reread()  # the parser may have changed, where the page has not
        lines = (line for parser in parsers() for line in _section(parser))
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)


def _section(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield from (f"## {parser.prog}", "", parser.description or "", "", *_closing(parser.epilog or ""))
    yield from (f":::{{program}} {parser.prog}", ":::", "")
    for group in parser._action_groups:
        shown = [action for action in group._group_actions if not isinstance(action, _NOT_SHOWN)]
        if shown:
            title = group.title or ""
            yield from (f"**{title[:1].upper()}{title[1:]}**", "")
            for action in shown:
                yield from _option(parser, action)


_NOT_SHOWN = (argparse._HelpAction, argparse._SubParsersAction)


def _closing(epilog: str) -> Iterator[str]:
    """What the help ends with: examples, or sentences."""
    first, *lines = epilog.splitlines()
    if first == EXAMPLES:
        yield from ("```sh", *(line.strip() for line in lines), "```", "")
    else:
        yield from (first, *lines, "")


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> Iterator[str]:
    value = _value(action)
    yield f":::{{option}} {', '.join(f'{name} {value}'.strip() for name in action.option_strings or [''])}"
    yield parser._get_formatter()._expand_help(action) if action.help else ""
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
