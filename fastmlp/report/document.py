"""A document of headings, paragraphs, tables, verdicts and pictures, written as one HTML page or as Markdown.

Blocks hold plain text: both writers clean and escape it.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import Template

from fastmlp.report.style import clean
from fastmlp.report.stylesheet import STYLESHEET


@dataclass(frozen=True)
class Paragraph:
    text: str
    kind: str = "plain"  # or "lead", or "notice"


@dataclass(frozen=True)
class Highlights:
    """A few figures to be seen first: (value, what it is, kind), kind "original", "augmented" or "plain"."""

    items: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Table:
    """The first cell of a row is its heading; kind "numbers" or "facts"; row_kinds are CSS classes, one per row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str
    row_kinds: Sequence[str]


@dataclass(frozen=True)
class Verdict:
    """holds: None where the run does not decide it."""

    claim: str
    holds: bool | None
    numbers: str


@dataclass(frozen=True)
class Picture:
    """`svg` is markup, for the page; `file` is the PNG's path from the document, for Markdown."""

    file: str
    svg: str
    title: str
    caption: str
    description: str


Block = Paragraph | Highlights | Table | Verdict | Picture


@dataclass(frozen=True)
class Section:
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    title: str
    overline: str
    opening: Sequence[Block]
    sections: Sequence[Section]


VERDICTS = {True: ("holds", "✓"), False: ("fails", "✗"), None: ("untested", "–")}
VERDICT_WORDS = {True: "Holds", False: "Does not hold", None: "Not decided"}


# HTML.

# The policy lets the page load nothing: not even a slip in the escaping could reach out.
PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
$stylesheet</style>
</head>
<body>
<main>
<header>
<p class="overline">$overline</p>
<h1>$title</h1>
$opening
</header>
$sections
</main>
</body>
</html>
""")


def to_html(document: Document) -> str:
    """One page that needs nothing from elsewhere."""
    return PAGE.substitute(
        title=_text(document.title),
        overline=_text(document.overline),
        stylesheet=STYLESHEET,
        opening="\n".join(_html(block) for block in document.opening),
        sections="\n".join(_html_section(section) for section in document.sections),
    )


def _html_section(section: Section) -> str:
    blocks = "\n".join(_html(block) for block in section.blocks)
    return f"<section>\n<h2>{_text(section.title)}</h2>\n{blocks}\n</section>"


def _html(block: Block) -> str:
    match block:
        case Paragraph(text, kind):
            return f'<p class="{kind}">{_text(text)}</p>'
        case Highlights():
            return _html_highlights(block)
        case Table():
            return _html_table(block)
        case Verdict():
            return _html_verdict(block)
        case Picture():
            return _html_picture(block)


def _html_highlights(highlights: Highlights) -> str:
    items = "\n".join(
        f'<div class="{kind}"><dt>{_text(label)}</dt><dd>{_text(value)}</dd></div>'
        for value, label, kind in highlights.items
    )
    return f'<dl class="highlights">\n{items}\n</dl>'


def _html_table(table: Table) -> str:
    header = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in table.header)
    rows = "\n".join(_html_row(row, kind) for row, kind in zip(table.rows, table.row_kinds, strict=True))
    return (
        f'<div class="wide"><table class="{table.kind}">\n<thead><tr>{header}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _html_row(row: Sequence[str], kind: str) -> str:
    cells = "".join(f"<td>{_text(cell)}</td>" for cell in row[1:])
    return f'<tr class="{kind}"><th scope="row">{_text(row[0])}</th>{cells}</tr>'


def _html_verdict(verdict: Verdict) -> str:
    kind, sign = VERDICTS[verdict.holds]
    return (
        f'<article class="verdict {kind}"><p class="badge"><span aria-hidden="true">{sign}</span> '
        f"{VERDICT_WORDS[verdict.holds]}</p>\n<h3>{_text(verdict.claim)}</h3>\n<p>{_text(verdict.numbers)}</p></article>"
    )


def _html_picture(picture: Picture) -> str:
    svg = picture.svg.replace("<svg", f'<svg role="img" aria-label="{_text(picture.description)}"', 1)
    return (
        f'<figure>\n<div class="wide">{svg}</div>\n'
        f"<figcaption><strong>{_text(picture.title)}</strong> {_text(picture.caption)}</figcaption>\n</figure>"
    )


def _text(text: str) -> str:
    return html.escape(clean(text))


# Markdown.


def to_markdown(document: Document) -> str:
    """GitHub's Markdown, pictures by relative links."""
    parts = [f"# {_escaped(document.title)}", f"*{_escaped(document.overline)}*"]
    parts += [_markdown(block) for block in document.opening]
    for section in document.sections:
        parts += [f"## {_escaped(section.title)}", *(_markdown(block) for block in section.blocks)]
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Paragraph(text, kind):
            return ("> " if kind == "notice" else "") + _escaped(text)
        case Highlights(items):
            return "\n".join(f"- **{_escaped(value)}** {_escaped(label)}" for value, label, _ in items)
        case Table():
            return _markdown_table(block)
        case Verdict(claim, holds, numbers):
            return f"**{VERDICT_WORDS[holds]}:** {_escaped(claim)} {_escaped(numbers)}"
        case Picture():
            image = f"![{_escaped(block.description)}]({block.file})"
            return f"{image}\n\n**{_escaped(block.title)}** {_escaped(block.caption)}"


def _markdown_table(table: Table) -> str:
    rule = "---:" if table.kind == "numbers" else "---"
    rows = [table.header, ["---"] + [rule] * (len(table.header) - 1), *table.rows]
    escaped = [row if index == 1 else [_escaped(cell) for cell in row] for index, row in enumerate(rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def _escaped(text: str) -> str:
    """Text in which no character is markup: HTML's by entities, Markdown's by backslashes."""
    return html.escape(re.sub(r"([\\`*_\[\]|#~$!])", r"\\\1", clean(text)), quote=False)
