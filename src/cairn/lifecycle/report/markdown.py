"""The report as Markdown; images lie beside it."""

from collections.abc import Sequence

from cairn.lifecycle.report.blocks import Block, Exchange, Figures, Heading, Image, Table, Text


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The whole document."""
    return "\n\n".join([f"# {title}", *(_block(block) for block in blocks)]) + "\n"


def _block(block: Block) -> str:
    match block:
        case Heading(text, level):
            return "#" * level + " " + text
        case Text(text):
            return text
        case Table():
            return _table(block)
        case Figures(items):
            return "\n".join(f"- {label}: **{value}** {remark}".rstrip() for label, value, remark in items)
        case Image(_, alt, file):
            return f"![{alt}]({file})"
        case Exchange():
            return _exchange(block)


def _table(table: Table) -> str:
    rule = ["---:" if place in table.numeric else "---" for place in range(len(table.columns))]
    rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in table.rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in (list(table.columns), rule, *rows))


def _exchange(exchange: Exchange) -> str:
    parts = [f"**{_quoted(exchange.prompt)}**", f"> {_quoted(exchange.reply) or '(nothing)'}"]
    if exchange.expected:
        parts.append(f"expected: {_quoted(exchange.expected)}")
    return "\n\n".join(parts)


def _quoted(text: str) -> str:
    # Generated text is not ours: it must not become markup.
    for character in "\\`*_<#|":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())
