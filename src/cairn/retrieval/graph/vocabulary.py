"""Mentions as numbers: keys and names by their place in a list, which only grows while a process lives."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cairn.retrieval.graph.mentions import Extract

_LONGEST_PART = 4


@dataclass(frozen=True, slots=True)
class ChunkMentions:
    """The extract of one chunk."""

    rows: NDArray[np.int32]
    """[mentions, 5]: key, name, count, times named, times common."""
    places: NDArray[np.int32]
    """[places, 2]: key, sentence."""
    aliases: tuple[tuple[int, int], ...]
    relations: tuple[tuple[int, str, int], ...]


@dataclass(slots=True)
class Vocabulary:
    """Numbers of words."""

    words: list[str] = field(default_factory=list)
    parts: list[tuple[int, int]] = field(default_factory=list)
    """A phrase, and one that is part of it."""
    num_words: list[int] = field(default_factory=list)
    """Of each."""
    _numbers: dict[str, int] = field(default_factory=dict)
    _with_parts: set[int] = field(default_factory=set)

    def number(self, word: str) -> int:
        """The number of a key or name."""
        found = self._numbers.get(word)
        if found is None:
            found = self._numbers[word] = len(self.words)
            self.words.append(word)
            self.num_words.append(word.count(" ") + 1)
        return found

    def find(self, word: str) -> int | None:
        """The number of one that has been seen."""
        return self._numbers.get(word)

    def take_in(self, extract: Extract) -> ChunkMentions:
        """An extract in numbers."""
        number = self.number
        rows = [
            (number(each.key), number(each.name), each.count, each.num_named, each.num_common)
            for each in extract.mentions
        ]
        for each in extract.mentions:
            self._note_parts(each.key)
        places = [
            (row[0], n) for row, each in zip(rows, extract.mentions, strict=True) for n in each.sentences
        ]
        first = 1 + max((n for _, n in places), default=-1)
        related = [(number(each.subject), each.words, number(each.object)) for each in extract.relations]
        for place, (subject, _, other) in enumerate(related, first):
            places += [(subject, place), (other, place)]
        return ChunkMentions(
            np.array(rows, np.int32).reshape(-1, 5),
            np.array(places, np.int32).reshape(-1, 2),
            tuple((number(short), number(long)) for short, long in extract.aliases),
            tuple(related),
        )

    def _note_parts(self, key: str) -> None:
        words, phrase = key.split(" "), self.number(key)
        if len(words) < 2 or phrase in self._with_parts:
            return
        self._with_parts.add(phrase)
        for size in range(1, min(len(words), _LONGEST_PART + 1)):
            for start in range(len(words) - size + 1):
                self.parts.append((phrase, self.number(" ".join(words[start : start + size]))))
