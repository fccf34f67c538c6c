"""Markdown as plain text."""

from cairn.data import plain_text


def test_a_book_becomes_plain_paragraphs() -> None:
    front = "# Title: A Book\n\n## Author: Somebody\n\n## Year: 1900\n\n-------\n\n"
    book = front + "##  Chapter 1 \n\nIt was. \n\n\nSo."
    assert plain_text(book) == "Chapter 1\n\nIt was.\n\nSo."
