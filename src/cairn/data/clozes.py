"""Questions made from passages alone: a phrase of a sentence is asked for with its other words.

After Lewis, Denoyer and Riedel 2019 ("Unsupervised Question Answering by Cloze Translation"): the phrase
becomes a question word that goes first, and some of the other words are left out, so that the place is not
found by equal words alone. They teach how words of a question meet a passage, not how people ask.
"""

import random
import re
from collections.abc import Iterable, Iterator

from cairn.data.questions import Question

_SENTENCE = re.compile(r"[^.!?\n]+(?:[.!?](?=\S)[^.!?\n]*)*")
_NAME = r"[A-Z][\w'’-]+(?: (?:of |the |and |de |van )?[A-Z][\w'’-]+)*"
_KINDS = (
    ("when", re.compile(r"\b(?:1\d|20)\d\d\b")),
    ("how many", re.compile(r"\b\d[\d,.]*\d?(?: (?:percent|million|billion|hundred|thousand))?(?!\w)")),
    (
        "where",
        re.compile(rf"(?<=\bin )(?:the )?{_NAME}|(?<=\bat )(?:the )?{_NAME}|(?<=\bfrom )(?:the )?{_NAME}"),
    ),
    ("who", re.compile(rf"(?<=\bby ){_NAME}")),
    ("why", re.compile(r"(?<=\bbecause )[^,;:()]{8,60}(?=[,;:)]|$)")),
    ("what", re.compile(rf"(?<=[\w,] ){_NAME}")),
    (
        "what",
        re.compile(
            r"\b(?:an?|the|its|their|his|her) "
            r"(?:(?!(?:of|and|in|to|that|which|was|is|were|are|for)\b)[a-z-]{3,} ?){1,3}\b"
        ),
    ),
)
_WORD = re.compile(r"\S+")
_FEWEST, _MOST = 5, 14
"""Words of a question besides the question word."""
_LEFT_OUT = 0.25
"""Share of the words that a question is without."""
_TRIES = 4


def clozes(passages: Iterable[Question], count: int, chance: random.Random) -> Iterator[Question]:
    """At most `count` questions on each passage, with its group."""
    for each in passages:
        sentences = [match for match in _SENTENCE.finditer(each.passage) if len(match[0].split()) > _FEWEST]
        made: set[tuple[int, int]] = set()
        for _ in range(count * _TRIES if sentences else 0):
            found = _cloze(chance.choice(sentences), chance)
            if found is not None and found[1] not in made:
                made.add(found[1])
                yield Question(
                    found[0], each.passage, (each.passage[slice(*found[1])],), found[1], each.group
                )
            if len(made) == count:
                break


def _cloze(sentence: re.Match[str], chance: random.Random) -> tuple[str, tuple[int, int]] | None:
    """A question on a sentence, and the place of its answer."""
    text, base = sentence[0], sentence.start()
    asked, pattern = chance.choice(_KINDS)
    phrases = list(pattern.finditer(text))
    if not phrases:
        return None
    phrase = chance.choice(phrases)
    start, end = phrase.start(), phrase.start() + len(phrase[0].rstrip())
    before = [word[0] for word in _WORD.finditer(text[:start])]
    after = [word[0] for word in _WORD.finditer(text[end:])]
    # A stretch of the sentence around the phrase, for questions are shorter than what they ask about.
    size = chance.randint(_FEWEST, _MOST)
    from_before = min(len(before), max(size - len(after), chance.randint(0, size)))
    near = before[len(before) - from_before :], after[: size - from_before]
    left, right = ([word for word in part if chance.random() > _LEFT_OUT] for part in near)
    words = [*right, *left] if chance.random() < 0.5 else [*left, *right]
    said = re.sub(r"[,;:()\"]", "", " ".join(words)).strip()
    if len(said.split()) < _FEWEST - 2 or end == start:
        return None
    return f"{asked} {said}?", (base + start, base + end)
