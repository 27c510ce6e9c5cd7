from __future__ import annotations

import base64
from html.parser import HTMLParser

from enas.compare.document import Heading, Paragraph, Picture, Table, to_html, to_markdown

PNG = base64.b64encode(b"\x89PNG").decode()
BLOCKS = [
    Heading(text="A <b> & c", level=1),
    Paragraph(text="**Bold: 1 < 2**, `code <i>` and 2 * 3 ** 4."),
    Table(headings=("name", "n"), rows=[("a|b", "1"), ("<c>", "2")]),
    Picture(name="curves", alt='the "curves"', png=b"\x89PNG"),
]


class Page(HTMLParser):
    """Collects tags, what they link to, and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_markdown_has_every_block():
    text = to_markdown(BLOCKS)
    assert text.startswith("# A <b> & c\n\n**Bold: 1 < 2**, `code <i>`")
    assert "| name | n |\n|:--|--:|\n| a\\|b | 1 |\n| <c> | 2 |" in text
    assert '![the "curves"](curves.svg)' in text


def test_html_is_one_well_formed_file_that_links_to_nothing():
    page = Page(to_html(BLOCKS, title="A <b>"))
    assert page.open == []
    assert page.links == [f"data:image/png;base64,{PNG}"]
    assert not {"script", "link", "iframe"} & set(page.tags)


def test_html_shows_the_same_texts_and_never_takes_them_for_tags():
    page = Page(to_html(BLOCKS, title="A <b>"))
    assert "A <b> & c" in page.words
    assert "Bold: 1 < 2, code <i> and 2 * 3 ** 4." in page.words
    assert "a|b" in page.words
    assert "<c>" in page.words
    assert {"b", "i", "c"} & set(page.tags) == set()
    assert page.tags.count("strong") == page.tags.count("code") == 1
    assert page.tags.count("th") == 2
    assert page.tags.count("td") == 4
