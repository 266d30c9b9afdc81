"""Docstrings are prose with names in backticks: here what reStructuredText would take for markup is made plain text.

Signatures name arrays as the code does, `NDArray[float32]`, not as NumPy spells that out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sphinx.application import Sphinx

CODE = re.compile(r"(``.*?``|`.*?`)")  # what stands in backticks, and what does not, in turns
MARKUP = re.compile(r"[*|]|_(?=\W|$)")
ARRAY = re.compile(r"~?numpy\.ndarray\[tuple\[~?(?:typing\.)?Any, \.\.\.\], ~?numpy\.dtype\[([^]]*)\]\]")
BEFORE_NUMPYDOC = 400
FIELD = re.compile(r"^\S.* : |^-+$")  # of numpydoc, which escapes them itself


def make_plain(app: Sphinx, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    lines[:] = _with_lists_apart([line if FIELD.match(line) else _escaped(line) for line in lines])


def _escaped(line: str) -> str:
    parts = CODE.split(line)
    return "".join(part if index % 2 else MARKUP.sub(r"\\\g<0>", part) for index, part in enumerate(parts))


def _with_lists_apart(lines: Sequence[str]) -> list[str]:
    """A blank line before and after every list, as reStructuredText wants it."""
    apart: list[str] = []
    in_list = False
    for line in lines:
        starts = line.startswith("- ")
        ends = in_list and bool(line) and not line.startswith(("- ", "  "))
        if apart and apart[-1] and ((starts and not in_list) or ends):
            apart.append("")
        in_list = starts or (in_list and not ends and bool(line))
        apart.append(line)
    return apart


def shorten_arrays(
    app: Sphinx, what: str, name: str, documented: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    shortened = (part and ARRAY.sub(r"NDArray[\1]", part) for part in (signature, returned))
    return next(shortened), next(shortened)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", make_plain, priority=BEFORE_NUMPYDOC)
    app.connect("autodoc-process-signature", shorten_arrays)
    return {"version": "1", "parallel_read_safe": True}
