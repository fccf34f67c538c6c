"""The report as one HTML file: style and images inside, no scripts, nothing fetched; light and dark."""

import base64
from collections.abc import Sequence
from html import escape

from cairn.lifecycle.report.blocks import Block, Exchange, Figures, Heading, Image, Table, Text

_STYLE = """
:root{--paper:#fbfaf7;--ink:#23241f;--faint:#6c6d64;--line:#dddbd2;--panel:#f3f1ea;--accent:#55702e}
@media(prefers-color-scheme:dark){:root{--paper:#191a17;--ink:#e6e4dc;--faint:#a09f95;--line:#35362f;
--panel:#22231f;--accent:#a9c47f}img{filter:invert(.88) hue-rotate(180deg)}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,sans-serif}
main{max-width:56rem;margin:0 auto;padding:2.5rem 1.25rem 4rem}
h1{font-size:1.75rem;line-height:1.2;margin:0 0 .25rem;letter-spacing:-.01em}
h2{font-size:1.15rem;margin:2.75rem 0 .75rem;padding-bottom:.35rem;border-bottom:1px solid var(--line)}
h3{font-size:1rem;margin:1.75rem 0 .5rem}
p{margin:.5rem 0;max-width:44rem;overflow-wrap:anywhere}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th{text-align:left;font-weight:600;color:var(--faint);border-bottom:1px solid var(--line)}
th,td{padding:.4rem .75rem .4rem 0;vertical-align:top}
td{border-bottom:1px solid var(--line);overflow-wrap:anywhere}
.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(10rem,1fr));gap:1px;background:var(--line);
border:1px solid var(--line);margin:1.5rem 0}
.figures div{background:var(--paper);padding:.8rem 1rem}
.figures dt{font-size:.8rem;color:var(--faint)}
.figures dd{margin:0}
.figures .value{font-size:1.5rem;font-weight:600;font-variant-numeric:tabular-nums}
.figures .remark{font-size:.8rem;color:var(--faint)}
img{max-width:100%;height:auto}
figure{margin:1rem 0}figcaption{font-size:.85rem;color:var(--faint)}
.exchange{margin:1rem 0;border:1px solid var(--line)}
.exchange>*{padding:.7rem 1rem;margin:0;max-width:none;white-space:pre-wrap;overflow-wrap:anywhere}
.prompt{background:var(--panel);font-size:.92rem}
.reply{border-left:3px solid var(--accent)}
.expected{font-size:.88rem;color:var(--faint);border-top:1px solid var(--line)}
code{font:.85em ui-monospace,monospace;background:var(--panel);padding:.1em .3em}
"""


def to_html(title: str, subtitle: str, blocks: Sequence[Block]) -> str:
    """The whole document."""
    body = "\n".join(_block(block) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main><h1>{escape(title)}</h1><p>{escape(subtitle)}</p>\n{body}\n</main></body></html>\n"
    )


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Text(text):
            return f"<p>{_inline(text)}</p>"
        case Table():
            return _table(block)
        case Figures(items):
            return f'<dl class="figures">{"".join(map(_figure, items))}</dl>'
        case Image(png, alt, _):
            data = base64.b64encode(png).decode()
            return (
                f'<figure><img alt="{escape(alt)}" src="data:image/png;base64,{data}">'
                f"<figcaption>{escape(alt)}</figcaption></figure>"
            )
        case Exchange():
            return _exchange(block)


def _figure(item: tuple[str, str, str]) -> str:
    label, value, remark = map(escape, item)
    return f'<div><dt>{label}</dt><dd class="value">{value}</dd><dd class="remark">{remark}</dd></div>'


def _table(table: Table) -> str:
    def cell(tag: str, place: int, text: str) -> str:
        kind = ' class="number"' if place in table.numeric else ""
        return f"<{tag}{kind}>{_inline(text)}</{tag}>"

    head = "".join(cell("th", place, text) for place, text in enumerate(table.columns))
    rows = (
        "<tr>" + "".join(cell("td", place, text) for place, text in enumerate(row)) + "</tr>"
        for row in table.rows
    )
    body = "".join(rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _exchange(exchange: Exchange) -> str:
    parts = [
        f'<p class="prompt">{escape(exchange.prompt)}</p>',
        f'<p class="reply">{escape(exchange.reply) or "(nothing)"}</p>',
    ]
    if exchange.expected:
        parts.append(f'<p class="expected">expected: {escape(exchange.expected)}</p>')
    return f'<div class="exchange">{"".join(parts)}</div>'


def _inline(text: str) -> str:
    """Text with `code` marked; everything else is escaped."""
    pieces = escape(text).split("`")
    if len(pieces) % 2 == 0:
        return escape(text)
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))
