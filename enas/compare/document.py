"""A report as blocks, which are written as Markdown and as one HTML file that needs nothing else: no network, script or font.

Texts know two marks of Markdown: **bold** and `code`. Everything else is shown as it is.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Heading:
    """A title. Attributes: level: 1 for the report's own, 2 for a section's."""

    text: str
    level: int = 2


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A paragraph."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table. Attributes: num_left: columns from the left that hold text, not numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_left: int = 1


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture. Attributes: name: of its files, without the suffix. alt: what it shows. png: the file that HTML embeds."""

    name: str
    alt: str
    png: bytes


Block = Heading | Paragraph | Table | Picture

_STYLE = """
body { margin: 0 auto; max-width: 68rem; padding: 1.5rem; font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; }
h1 { font-size: 1.6rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ccc; padding-bottom: .2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; margin: .8rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; vertical-align: top; }
th { border-bottom: 2px solid #888; font-weight: 600; }
td { font-variant-numeric: tabular-nums; }
.left { text-align: left; }
img { max-width: 100%; height: auto; }
code { background: #f2f2f2; padding: 0 .2rem; border-radius: 3px; font-size: .9em; overflow-wrap: anywhere; }
"""


def to_markdown(blocks: Sequence[Block]) -> str:
    """Return blocks as Markdown; pictures stand beside it as SVG files."""
    parts = []
    for block in blocks:
        match block:
            case Heading():
                parts.append(f"{'#' * block.level} {block.text}")
            case Paragraph():
                parts.append(block.text)
            case Table():
                parts.append(_markdown_table(block))
            case Picture():
                parts.append(f"![{block.alt}]({block.name}.svg)")
    return "\n\n".join(parts) + "\n"


def to_html(blocks: Sequence[Block], *, title: str) -> str:
    """Return blocks as a complete HTML page with its pictures inside."""
    parts = []
    for block in blocks:
        match block:
            case Heading():
                parts.append(f"<h{block.level}>{_inline(block.text)}</h{block.level}>")
            case Paragraph():
                parts.append(f"<p>{_inline(block.text)}</p>")
            case Table():
                parts.append(_html_table(block))
            case Picture():
                data = base64.b64encode(block.png).decode("ascii")
                parts.append(f'<p><img alt="{html.escape(block.alt)}" src="data:image/png;base64,{data}"></p>')
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}<style>{_STYLE}</style></head>\n<body>\n{body}\n</body>\n</html>\n'


def _markdown_table(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    marks = ":--|" * table.num_left + "--:|" * (len(table.headings) - table.num_left)
    return "\n".join([line(table.headings), f"|{marks}", *map(line, table.rows)])


def _html_table(table: Table) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        marked = ((' class="left"' if index < table.num_left else "", cell) for index, cell in enumerate(cells))
        return "<tr>" + "".join(f"<{tag}{mark}>{_inline(cell)}</{tag}>" for mark, cell in marked) + "</tr>"

    rows = "\n".join(line(row, "td") for row in table.rows)
    return f'<div class="wide"><table>\n<thead>{line(table.headings, "th")}</thead>\n<tbody>{rows}</tbody>\n</table></div>'


def _inline(text: str) -> str:
    """Return a text as HTML: escaped, with its two marks."""
    shown = html.escape(text, quote=False)
    shown = re.sub(r"`([^`]+)`", r"<code>\1</code>", shown)
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", shown)
