"""Abbreviations where they are introduced: "Hierarchical Navigable Small World (HNSW)", or the reverse.

The long form is the shortest run of words before the bracket in which the letters of the short one stand in
order, the first at the beginning of a word (Schwartz and Hearst 2003, "A Simple Algorithm for Identifying
Abbreviation Definitions in Biomedical Text").
"""

import re
from collections.abc import Iterator

from cairn.retrieval.graph.words import WORD

_BRACKETED = re.compile(r"\(([^()]{2,80})\)")
_SHORT = re.compile(r"[A-Za-z][\w.&-]{1,9}")


def definitions(text: str) -> Iterator[tuple[str, str]]:
    """Short and long forms that a text introduces."""
    for match in _BRACKETED.finditer(text):
        inside, before = match[1].strip(), text[: match.start()].rstrip()
        if _is_short(inside):
            long = _long_form(inside, before)
            if long:
                yield inside, long
            continue
        last = before.rsplit(maxsplit=1)[-1] if before else ""
        if _is_short(last) and _long_form(last, inside) == inside:
            yield last, inside


def _is_short(text: str) -> bool:
    return bool(_SHORT.fullmatch(text)) and sum(c.isupper() for c in text) >= 2


def _long_form(short: str, before: str) -> str:
    """The end of a text that a short form stands for; empty where there is none."""
    letters = [c for c in short.lower() if c.isalnum()]
    most_words = min(len(letters) + 5, 2 * len(letters))
    words = [match.start() for match in WORD.finditer(before)]
    lower, place = before.lower(), len(before)
    least = words[-most_words] if len(words) > most_words else 0
    for number, letter in reversed(list(enumerate(letters))):
        place -= 1
        while place >= least and (
            lower[place] != letter or (number == 0 and place > 0 and before[place - 1].isalnum())
        ):
            place -= 1
        if place < least:
            return ""
    long = before[place:]
    is_one_sentence = not re.search(r"[.!?;:]\s|\n\s*\n", long)
    return long if is_one_sentence and len(long) > len(short) and short not in long.split() else ""
