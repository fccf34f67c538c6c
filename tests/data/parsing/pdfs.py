"""PDF files written by hand, as small as they can be, and the checks that every parsed document must pass."""

import zlib
from collections.abc import Sequence

from cairn.data.parsing import ParsedDocument


def make_pdf(contents: Sequence[str], *, objects: Sequence[bytes] = (), page: str = "") -> bytes:
    """A file with a page for each content; /F1 is Helvetica, /F2 is bold, `objects` start at number 5."""
    kids = [5 + len(objects) + 2 * at for at in range(len(contents))]
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>",
        *objects,
    ]
    for kid, content in zip(kids, contents, strict=True):
        resources = page or "/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >>"
        head = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] {resources} /Contents {kid + 1} 0 R >>"
        bodies += [head.encode(), stream("/Filter /FlateDecode", zlib.compress(content.encode("cp1252")))]
    return assemble(bodies)


def stream(fields: str, data: bytes) -> bytes:
    """A stream object's body."""
    return f"<< /Length {len(data)} {fields} >>\nstream\n".encode() + data + b"\nendstream"


def assemble(bodies: Sequence[bytes], trailer: str = "") -> bytes:
    """The file of these objects, numbered from 1; the first is the catalogue."""
    data = bytearray(b"%PDF-1.7\n")
    starts = []
    for number, body in enumerate(bodies, start=1):
        starts.append(len(data))
        data += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = len(data)
    data += f"xref\n0 {len(bodies) + 1}\n0000000000 65535 f \n".encode()
    data += b"".join(f"{start:010} 00000 n \n".encode() for start in starts)
    data += f"trailer\n<< /Size {len(bodies) + 1} /Root 1 0 R {trailer} >>\n".encode()
    return bytes(data + f"startxref\n{table}\n%%EOF\n".encode())


def show(text: str, x: float, y: float, *, size: float = 11, font: str = "F1") -> str:
    """Operators that write one line; `y` counts from the bottom."""
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /{font} {size} Tf {x} {y} Td ({escaped}) Tj ET\n"


def column(lines: Sequence[str], x: float, y: float, *, size: float = 11) -> str:
    """Lines below each other."""
    return "".join(show(line, x, y - 1.3 * size * at, size=size) for at, line in enumerate(lines))


def check(document: ParsedDocument) -> None:
    """What holds for every document: spans are in order, inside their page, with white space between."""
    data = document.text.encode()
    position = 3 if document.text.startswith("\ufeff") else 0
    assert [page.number for page in document.pages] == list(range(1, len(document.pages) + 1))
    for page in document.pages:
        assert 0 <= page.span[0] <= page.span[1] <= len(data)
        assert 0.0 <= page.confidence <= 1.0
        assert all(problem.page == page.number for problem in page.problems)
    for block in document.blocks:
        start, end = block.span
        assert position <= start < end
        assert not data[position:start].decode().strip()
        assert data[start:end].decode().strip()
        page = document.pages[block.page - 1]
        assert page.span[0] <= start
        assert end <= page.span[1]
        position = end
    assert not data[position:].decode().strip()


def texts(document: ParsedDocument, kind: str = "") -> list[str]:
    """The texts of its blocks, of one kind or all."""
    data = document.text.encode()
    return [data[slice(*block.span)].decode() for block in document.blocks if kind in ("", block.kind)]
