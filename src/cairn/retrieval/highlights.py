"""Highlights: where the words of a query stand in a passage, in whatever form they stand there."""

from cairn.retrieval.query_words import WORD, telling_words
from cairn.retrieval.terms import terms


def highlights(query: str, text: str) -> list[tuple[int, int]]:
    """Spans of words that a full-text search of the query would match; UTF-8 bytes of the passage's text."""
    wanted = {term for word in telling_words(query) for term in terms(word)}
    found, place, seen = [], 0, 0
    for match in WORD.finditer(text):
        place += len(text[seen : match.start()].encode())
        width = len(match.group().encode())
        if not wanted.isdisjoint(terms(match.group())):
            found.append((place, place + width))
        place, seen = place + width, match.end()
    return found
