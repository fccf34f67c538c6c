"""Mail, rows, notebooks, source code, and files that are told apart by their bytes."""

import json
from email.message import EmailMessage

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cairn.data.parsing import parse_bytes
from cairn.data.parsing.sniff import sniff
from tests.data.parsing.containers import docx, epub, pptx, word_paragraph, xlsx, zipped
from tests.data.parsing.pdfs import check, make_pdf, texts


def message(subject: str = "Größe des Büros") -> EmailMessage:
    mail = EmailMessage()
    mail["From"] = "Ann <ann@example.org>"
    mail["To"] = "Bob <bob@example.org>"
    mail["Date"] = "Mon, 02 Mar 2026 10:00:00 +0100"
    mail["Subject"] = subject
    mail.set_content("Hello Bob,\n\nsee the plan.\n")
    return mail


def test_mail() -> None:
    mail = message()
    mail.add_alternative("<html><p>Hello <b>Bob</b></p></html>", subtype="html")
    mail.add_attachment(b"%PDF-1.7", maintype="application", subtype="pdf", filename="plän.pdf")
    mail.add_attachment(message("Inner"))
    document = parse_bytes(mail.as_bytes(), "note.eml")
    check(document)
    assert document.title == "Größe des Büros"
    assert document.metadata["attachments"] == ["plän.pdf (application/pdf, 8 bytes)"]
    assert document.metadata["date"] == "2026-03-02T10:00:00+01:00"
    found = texts(document)
    assert found[0] == "# Größe des Büros"
    assert found[2:4] == ["Hello Bob,", "see the plan."]
    assert "## Inner" in found
    assert "Attachments:\n- plän.pdf" in found[-1]


def test_mail_of_html_and_without_a_known_encoding() -> None:
    data = (
        b"From: a@b.c\r\nSubject: =?nonsense?Q?x?=\r\nDate: soon\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: text/html; charset=klingon\r\n\r\n<h1>Hi</h1><p>f\xfcr sch\xf6ne Gr\xfc\xdfe</p>"
    )
    document = parse_bytes(data, "")
    check(document)
    assert document.media_type == "message/rfc822"
    assert "für schöne Grüße" in document.text
    assert "# Hi" in texts(document)


def test_a_box_has_a_page_for_each_message() -> None:
    line = b"From ann@example.org Mon Mar  2 10:00:00 2026\n"
    box = b"".join(line + message(f"No {at}").as_bytes() for at in range(3))
    document = parse_bytes(box, "mails.mbox")
    check(document)
    assert [block.page for block in document.blocks if block.kind == "heading"] == [1, 2, 3]
    assert len(document.pages) == 3


def test_messages_inside_messages_are_bounded() -> None:
    mail = message()
    for at in range(15):
        outer = message(f"level {at}")
        outer.add_attachment(mail)
        mail = outer
    document = parse_bytes(mail.as_bytes(), "deep.eml")
    check(document)
    assert [problem.kind for problem in document.pages[0].problems] == ["too_large"]


def test_csv() -> None:
    data = b'name;"note";n\nAnn;"two\nlines; one cell";1\nBob;;2\n'
    document = parse_bytes(data, "x.csv")
    check(document)
    assert document.text.encode() == data
    assert [block.kind for block in document.blocks] == ["table"]
    assert document.metadata == {"delimiter": ";", "columns": ["name", "note", "n"], "rows": 3}
    assert not document.pages[0].problems
    uneven = parse_bytes(b"a,b,c\n1,2\n3\n4,5,6,7\n", "x.csv")
    assert [problem.kind for problem in uneven.pages[0].problems] == ["lost_table"]


def test_json() -> None:
    data = json.dumps({"a": {"b": [1, 2]}, "c": "x"}, indent=2).encode()
    document = parse_bytes(data, "x.json")
    check(document)
    assert document.text.encode() == data
    assert [block.name for block in document.blocks] == ["a", "c"]
    assert parse_bytes(data[:-5], "x.json").pages[0].problems[0].kind == "truncated"
    assert parse_bytes(b"[" * 100_000, "x.json").pages[0].problems[0].kind == "truncated"
    lines = parse_bytes(b'{"a": 1}\n\n{"b": 2}\n{"c\n', "x.jsonl")
    check(lines)
    assert len(lines.blocks) == 3
    assert lines.pages[0].problems[0].message == "1 of 3 lines are no JSON"


def test_notebook() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Study\n", "\n", "- a\n"]},
        {
            "cell_type": "code",
            "source": "print(1)",
            "outputs": [{"text": ["1\n"]}, {"data": {"text/plain": "2"}}],
        },
        {"cell_type": "raw", "source": ""},
        7,
    ]
    document = parse_bytes(json.dumps({"cells": cells}).encode(), "x.ipynb")
    check(document)
    assert texts(document) == ["# Study", "- a", "```python\nprint(1)\n```", "```\n1\n\n```", "```\n2\n```"]
    assert document.title == "Study"


def test_python_by_its_grammar() -> None:
    methods = "".join(f"    @property\n    def m{at}(self):\n" + "        x = 1\n" * 10 for at in range(8))
    source = (
        "import os\n\nX = 1\n\n@cache\ndef f(a):\n\n    return a\n\n"
        f"class Big:\n    '''Doc.'''\n{methods}\nmain()\n"
    )
    document = parse_bytes(source.encode(), "x.py")
    check(document)
    assert document.text == source
    assert [block.name for block in document.blocks] == [
        "",
        "f",
        "Big",
        *(f"Big.m{at}" for at in range(8)),
        "",
    ]
    assert texts(document)[1].startswith("@cache\ndef f")
    assert texts(document)[3].startswith("    @property\n    def m0")


@pytest.mark.parametrize(
    ("name", "source", "names"),
    [
        (
            "x.rs",
            "use a;\n\nimpl Foo {\n  fn a() {}\n\n  fn b() {}\n}\n\npub fn go(x: u8) {\n}\n",
            ["", "Foo", "go"],
        ),
        (
            "x.c",
            "#include <a.h>\n\nstatic int add(int a,\n               int b) {\n  return a;\n\n}\n",
            ["", "add"],
        ),
        ("x.go", "package a\n\nfunc (s *T) Run(x int) {\n\ty()\n}\n", ["", "Run"]),
        ("x.ts", "export class A {\n  x = 1;\n}\n\nexport function f() {\n}\n", ["A", "f"]),
        ("broken.py", "def f(:\n    pass\n\ndef g():\n    pass\n", ["f", "g"]),
        ("Makefile", "all:\n\techo\n\n# no heading\nclean:\n", ["", ""]),
    ],
)
def test_other_code_by_its_layout(name: str, source: str, names: list[str]) -> None:
    document = parse_bytes(source.encode(), name)
    check(document)
    assert document.text == source
    assert [block.kind for block in document.blocks] == ["code"] * len(names)
    assert [block.name for block in document.blocks] == names


@pytest.mark.parametrize(
    ("data", "name", "kind"),
    [
        (make_pdf([""]), "wrong.txt", "pdf"),
        (docx(""), "wrong.pdf", "docx"),
        (xlsx({"a": ""}), "", "xlsx"),
        (pptx([""]), "", "pptx"),
        (epub({}), "", "epub"),
        (zipped({"a": b""}), "x.docx", "application/zip"),
        (b"PK\x03\x04rubbish", "x.docx", "broken zip"),
        (b"<!DOCTYPE html>\n<p>", "report.pdf", "html"),
        (b"\x89PNG\r\n\x1a\n", "", "image/png"),
        (b"\xff\xd8\xff\xe0", "scan.pdf", "image/jpeg"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "x.docx", "encrypted"),
        (b"BMW builds cars and the letters say no more", "", "text"),
        (bytes(range(256)) * 4, "x.txt", "application/octet-stream"),
        ("text".encode("utf-16"), "x.md", "markdown"),
        (b'{"a": 1}', "", "json"),
        (b"#!/bin/sh\necho", "run", "code"),
        (b"From: a@b.c\nTo: b@c.d\nSubject: x\n\nbody", "", "mail"),
    ],
)
def test_sniffing(data: bytes, name: str, kind: str) -> None:
    assert sniff(data, name) == kind


def test_what_is_not_read_says_what_to_do() -> None:
    found = [
        parse_bytes(data, name).pages[0].problems[0].kind
        for data, name in [
            (b"", "x.txt"),
            (b" \n ", "x.md"),
            (b"\x89PNG\r\n\x1a\n\0\0", "x.png"),
            (zipped({"a": b""}), "x.zip"),
            (b"PK\x03\x04rubbish", "x.docx"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "x.doc"),
        ]
    ]
    assert found == ["empty", "empty", "image_only", "unsupported", "failed", "unsupported"]


SUFFIXES = ["md", "txt", "csv", "json", "jsonl", "ipynb", "html", "eml", "mbox", "py", "c", "", "pdf", "docx"]
WHOLE = [docx(word_paragraph("some text")), xlsx({"a": ""}), make_pdf(["BT ET"]), message().as_bytes()]


@settings(max_examples=150, deadline=None)
@example(data=b"Subject: =?\xfftf-8?q?caf=C3=A9?=\n\nx", suffix="eml")
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.text(alphabet="ab\"'{}[]():;,=\\ \n\t#@_é\x0c", max_size=80).map(str.encode),
        st.tuples(st.sampled_from(WHOLE), st.integers(0, 2000), st.binary(max_size=9)).map(
            lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] + len(cut[2]) :]
        ),
    ),
    suffix=st.sampled_from(SUFFIXES),
)
def test_any_bytes_become_a_document(data: bytes, suffix: str) -> None:
    document = parse_bytes(data, f"x.{suffix}" if suffix else "x")
    check(document)
    assert document.text.strip() or document.pages[0].problems
