"""How far a page's text can be trusted, from the text alone.

Counted: characters no reader could have written (U+FFFD, private-use glyphs, control characters), glyphs
the format itself could not name, words without spaces, words spelt backwards, and letters that are no
language (a font whose map is shifted). What is measured on letters holds for the Latin script alone, and
needs some text to say anything; a fluent but wrong text is not recognised.
"""

import re
import unicodedata

from cairn.data.parsing.parsed import ProblemKind

_BAD = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ufffd-\uffff\ue000-\uf8ff\U000f0000-\U0010ffff]")
_LATIN_WORD = re.compile(r"[A-Za-zÀ-ÖØ-öø-ſƠơƯưẠ-ỹ]+")
# Only words that are no word of another language when they are turned round, as `des` is `sed`.
_COMMON = frozenset(
    "the and that with for this from which have nicht und mit die pour dans les para della".split()  # noqa: SIM905
)
_REVERSED = frozenset(word[::-1] for word in _COMMON)
_FREQUENT = "eaionrtsl"
_SAMPLE = 4000
"""Characters looked at in each of five places of a long text."""
_LEAST_LETTERS = 200
_FREQUENT_SHARE = 0.45
"""These nine are 57 to 72 of a hundred letters in any of 13 languages, and in program text; 35 by chance."""
_LONGEST_WORD = 28
"""More than half of a text in longer words has lost its spaces."""
_BAD_SHARE = 0.02
"""A problem above it; below, a stray sign."""


def assess(text: str) -> tuple[float, list[tuple[ProblemKind, str]]]:
    """Confidence from 0 to 1 and what is wrong with a page, whatever its format."""
    if not text.strip():
        return 0.0, [("empty", "no text on this page")]
    return _share_of_bad(text, len(_BAD.findall(text)))


def assess_glyphs(text: str, num_unmapped: int) -> tuple[float, list[tuple[ProblemKind, str]]]:
    """The same for text made of a font's glyphs, of which so many had no letter of their own."""
    confidence, problems = assess(text)
    if not text.strip():
        return confidence, problems
    if num_unmapped:
        confidence, problems = _share_of_bad(text, max(num_unmapped, len(_BAD.findall(text))))
    wrong = _wrong_words(_sample(text))
    if wrong:
        confidence = min(confidence, 0.2)
        problems.append(("garbled", wrong))
    return confidence, problems


def _share_of_bad(text: str, count: int) -> tuple[float, list[tuple[ProblemKind, str]]]:
    share = min(1.0, count / (len(text) - text.count(" ") - text.count("\n")))
    confidence = round(max(0.0, 1.0 - 4.0 * share), 3)
    if share <= _BAD_SHARE:
        return confidence, []
    return confidence, [("garbled", f"{share:.0%} of the characters are no letters of any script")]


def _sample(text: str) -> str:
    if len(text) <= 5 * _SAMPLE:
        return text
    step = (len(text) - _SAMPLE) // 4
    return "\n".join(text[at : at + _SAMPLE] for at in range(0, len(text) - _SAMPLE + 1, step))


def _wrong_words(text: str) -> str:
    """Why the words of a text are no language; empty when they may be one."""
    # Short forms in capitals have few vowels and are words of a kind.
    found = _LATIN_WORD.findall(unicodedata.normalize("NFC", text))
    words = [word for word in found if not word.isupper()]
    letters = sum(map(len, words))
    # Of a page in another script, the few Latin letters say nothing.
    if letters < _LEAST_LETTERS or letters < 0.5 * sum(map(str.isalpha, text)):
        return ""
    if sum(len(word) for word in words if len(word) > _LONGEST_WORD) > 0.5 * letters:
        return "the spaces between the words are lost"
    forwards, backwards = (sum(word in known for word in words) for known in (_COMMON, _REVERSED))
    if backwards >= 5 and backwards > 2 * forwards:
        return "the words are spelt backwards"
    plain = unicodedata.normalize("NFD", "".join(words).lower())
    if sum(map(plain.count, _FREQUENT)) < _FREQUENT_SHARE * letters:
        return "these letters make no words"
    return ""
