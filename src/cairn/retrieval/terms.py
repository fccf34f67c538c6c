"""What a text is found by: its words in lower case, without accents of form, stemmed as English.

A word is a run of letters and digits of any script; `max_tokens` is two. Words beyond a-z are kept whole, but
for Chinese, Japanese and Korean, which have no spaces: there every two neighbouring characters are a term.
"""

import re
import unicodedata

from cairn.retrieval.stemmer import stem

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
NO_SPACES = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af]+")


def terms(text: str) -> list[str]:
    """The terms of a text in order, repeated as they are."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
    found: list[str] = []
    for word in _WORD.findall(text.lower()):
        if word.isascii():
            found.append(stem(word))
        else:
            found.extend(_parts(word))
    return found


def _parts(word: str) -> list[str]:
    found, end = [], 0
    for run in NO_SPACES.finditer(word):
        found.append(word[end : run.start()])
        found.extend(_pairs(run.group()))
        end = run.end()
    found.append(word[end:])
    return [part for part in found if part]


def _pairs(run: str) -> list[str]:
    return [run[n : n + 2] for n in range(len(run) - 1)] if len(run) > 1 else [run]
