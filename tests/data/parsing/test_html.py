"""HTML: what a reader of the page sees, as Markdown."""

from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.data.parsing import ParseLimits, parse_bytes
from tests.data.parsing.pdfs import check, texts

PAGE = """<!DOCTYPE html><html><head><title> The &amp; Title </title><style>p {}</style></head><body>
<nav><ul><li>Home</li></ul></nav>
<h1>Rules<br>of work</h1><p>First <b>bold</b>
para&shy;graph.</p>Loose text
<ul><li>one<ul><li>inner</li></ul></li><li><p>two</p><p>more</p></li></ul>
<ol><li>first</li><li>second</li></ol>
<p hidden>ignore all rules</p><div style="display: none">secret</div>
<table><caption>Days</caption>
<tr><th>who<th>day</tr><tr><td rowspan=2>Ann|Bob<td>Mon<br>Tue</tr><tr><td>Wed</tr></table>
<pre><code class="language-python">def f():
    return 1</code></pre>
<script>alert("<p>no</p>")</script>
<figure><img src="x.png" alt="A map of the site"><figcaption>Figure 1</figcaption></figure>
</body></html>"""


def test_blocks_of_a_page() -> None:
    document = parse_bytes(PAGE.encode(), "page.html")
    check(document)
    assert document.title == "The & Title"
    assert document.media_type == "text/html"
    assert [(block.kind, block.level) for block in document.blocks] == [
        ("heading", 1),
        ("paragraph", 0),
        ("paragraph", 0),
        ("list", 0),
        ("list", 0),
        ("caption", 0),
        ("table", 0),
        ("code", 0),
        ("paragraph", 0),
        ("caption", 0),
    ]
    assert texts(document) == [
        "# Rules of work",
        "First bold para\xadgraph.",
        "Loose text",
        "- one\n  - inner\n- two\n  more",
        "1. first\n2. second",
        "Days",
        "| who | day |\n| --- | --- |\n| Ann\\|Bob | Mon Tue |\n| Ann\\|Bob | Wed |",
        "```python\ndef f():\n    return 1\n```",
        "A map of the site",
        "Figure 1",
    ]


def test_tables_for_layout_are_paragraphs() -> None:
    page = b"<html><table><tr><td>menu<td><h2>News</h2><table><tr><td>a<td>b</tr></table>tail</table>"
    document = parse_bytes(page, "x.html")
    check(document)
    assert texts(document) == ["menu", "## News", "| a | b |\n| --- | --- |", "tail"]


def test_the_declared_encoding_counts_where_it_is_no_utf8() -> None:
    page = "<html><head><meta charset='windows-1251'></head><p>Привет, мир</p></html>"
    assert texts(parse_bytes(page.encode("cp1251"), "")) == ["Привет, мир"]


def test_an_empty_page_and_an_unclosed_part_are_told() -> None:
    script = parse_bytes(b"<html><body><script>app()</script></body></html>", "x.html")
    assert [problem.kind for problem in script.pages[0].problems] == ["empty"]
    assert script.pages[0].confidence == 0.0
    cut = parse_bytes(b"<html><body><p>text</p><nav><p>lost</p></body>", "x.html")
    assert texts(cut) == ["text"]
    assert [problem.kind for problem in cut.pages[0].problems] == ["truncated"]


def test_deep_nesting_and_huge_spans_cost_nothing() -> None:
    deep = b"<html>" + b"<div><ul><li><table><tr><td>" * 20_000 + b"bottom"
    document = parse_bytes(deep, "x.html")
    check(document)
    assert "bottom" in document.text
    wide = b"<html><table><tr><td rowspan=99999 colspan=99999>a<td colspan=" + b"9" * 5000 + b">b</table>"
    check(parse_bytes(wide, "x.html"))


def test_text_beyond_the_limit_is_told() -> None:
    page = b"<html>" + b"<p>some words</p>" * 1000
    document = parse_bytes(page, "x.html", limits=ParseLimits(max_text_bytes=1000))
    check(document)
    assert len(document.text.encode()) <= 1000
    assert document.pages[-1].problems[0].kind == "too_large"
    assert document.pages[-1].confidence == 0.0


TAGS = [
    "p",
    "ul",
    "ol",
    "li",
    "table",
    "tr",
    "td",
    "th",
    "pre",
    "code",
    "h2",
    "div",
    "nav",
    "br",
    "caption",
    "title",
]


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(
        st.one_of(
            st.sampled_from([f"<{tag}>" for tag in TAGS] + [f"</{tag}>" for tag in TAGS]),
            st.sampled_from(
                ["<td rowspan=3 colspan=2>", "<!-- ", "<p hidden>", "&#0;", "&#xd800;", "<img alt='x y'>"]
            ),
            st.text(alphabet="ab \n|é𝄞\x00", max_size=5),
        ),
        max_size=40,
    )
)
def test_any_soup_of_tags(parts: list[str]) -> None:
    check(parse_bytes(("<html>" + "".join(parts)).encode(), "x.html"))
