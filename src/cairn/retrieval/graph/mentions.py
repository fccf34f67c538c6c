"""What a passage speaks of, from its own text alone: names by their capitals, terms by their words.

Candidates are kept with how often they stood with a capital and without, and in which sentences. What they
are worth is decided later, over the passages that somebody may see: here nothing is known of other chunks.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cairn.retrieval.graph.abbreviations import definitions
from cairn.retrieval.graph.words import CONNECTORS, WORD, is_empty, word_key
from cairn.retrieval.splitting import sentences

STATISTICS = "statistics"
"""Who read or wrote what no model did."""
_LONGEST_NAME, _LONGEST_PART = 8, 4
_TITLE_SHARE, _TITLE_WORDS = 0.75, 3
_GAP = re.compile(r"[^\S\n]+|[^\S\n]*\n[^\S\n]*")
_POSSESSIVE = re.compile(r"['’]s?$")
_MOST_SENTENCES = 8  # of one mention: where more stand, what goes together is known already


@dataclass(slots=True)
class Mention:
    """An entity in a passage."""

    key: str
    """What it is known by: words in lower case and singular, abbreviations in capitals."""
    name: str
    """As it stands in the text."""
    count: int = 0
    num_named: int = 0
    """Times within a sentence with a capital."""
    num_common: int = 0
    """Times without."""
    sentences: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Relation:
    """Two entities that a model found related, in its words."""

    subject: str
    words: str
    object: str


@dataclass(frozen=True, slots=True)
class Extract:
    """What a passage speaks of."""

    mentions: tuple[Mention, ...]
    aliases: tuple[tuple[str, str], ...] = ()
    """Keys of short forms and of what they stand for."""
    relations: tuple[Relation, ...] = ()


def read_passage(context: str, text: str) -> Extract:
    """The entities of a chunk; its context are the headings above it."""
    found: dict[str, Mention] = {}
    names: dict[str, Counter[str]] = {}

    def note(key: str, name: str, number: int, *, named: bool | None) -> None:
        mention = found.setdefault(key, Mention(key, name))
        mention.count += 1
        mention.num_named += named is True
        mention.num_common += named is False
        if number not in mention.sentences[-1:] and len(mention.sentences) < _MOST_SENTENCES:
            mention.sentences.append(number)
        names.setdefault(key, Counter())[name] += 1

    pieces = pieces_of(context, text)
    for number, piece in enumerate(pieces):
        for key, name, named in _candidates(piece):
            note(key, name, number, named=named)
    aliases = dict[tuple[str, str], None]()
    for number, piece in enumerate(pieces):
        for short, long in definitions(piece):
            pair = phrase_key(short), phrase_key(long)
            if all(pair) and pair[0] != pair[1]:
                aliases[pair] = None
                for key, name in zip(pair, (short, long), strict=True):
                    if key not in found:
                        note(key, " ".join(name.split()), number, named=True)
    for key, mention in found.items():
        mention.name = names[key].most_common(1)[0][0]
    return Extract(tuple(found.values()), tuple(aliases))


def pieces_of(context: str, text: str) -> list[str]:
    """The headings and sentences of a chunk, as mentions count them."""
    return [*context.splitlines(), *sentences(text)]


def phrase_key(phrase: str) -> str:
    """What a name or term is known by."""
    return " ".join(filter(None, (word_key(word) for word in WORD.findall(phrase))))


class _Word(NamedTuple):
    text: str
    key: str
    is_capital: bool
    is_empty: bool
    follows: bool
    """Nothing but space is between it and the word before it."""


def _candidates(piece: str) -> Iterator[tuple[str, str, bool | None]]:
    """Key, name, and whether it stood with a capital; None where that tells nothing."""
    words = list(_words(piece))
    is_title = _is_title(piece, words)
    start = 0
    while start < len(words):
        end = start + 1 if is_title else _name_end(words, start)
        if end - start > 1 or (end > start and start > 0 and words[start].is_capital and not is_title):
            yield from _parts_of_name(words[start:end])
            start = end
            continue
        end = _term_end(words, start, is_title=is_title)
        named = None if start == 0 or is_title else False
        for place in range(start, end):
            yield words[place].key, words[place].text, named if place == start or is_title else False
            if place + 1 < end:
                pair = words[place : place + 2]
                yield " ".join(each.key for each in pair), " ".join(each.text for each in pair), None
        start = max(end, start + 1)


def _words(piece: str) -> Iterator[_Word]:
    tells_case = not piece.isupper()
    before = -1
    for match in WORD.finditer(piece):
        text = _POSSESSIVE.sub("", match.group())
        follows = before >= 0 and _GAP.fullmatch(piece, before, match.start()) is not None
        key = word_key(text, keep_case=tells_case)
        yield _Word(text, key, tells_case and text[:1].isupper(), is_empty(text), follows)
        # A possessive ends what it stands in.
        before = match.end() if text == match.group() else -1


def _is_title(piece: str, words: Sequence[_Word]) -> bool:
    """Whether capitals tell nothing here, as in a heading."""
    if piece.rstrip().endswith((".", "!", "?")):
        return False
    telling = [word.is_capital for word in words if not word.is_empty]
    return len(telling) >= _TITLE_WORDS and sum(telling) >= _TITLE_SHARE * len(telling)


def _name_end(words: Sequence[_Word], start: int) -> int:
    """Where the name that begins at a word ends; `start` where none does."""
    if not words[start].is_capital or words[start].is_empty:
        return start
    end = place = start + 1
    while place < len(words) and words[place].follows and place - start < _LONGEST_NAME:
        text = words[place].text
        if (words[place].is_capital and (not words[place].is_empty or text.isupper())) or text.isdigit():
            end = place + 1
        elif text not in CONNECTORS:
            break
        place += 1
    return end


def _term_end(words: Sequence[_Word], start: int, *, is_title: bool) -> int:
    """Where a run of words that may be a term ends."""
    place = start
    while place < len(words):
        word = words[place]
        is_name = word.is_capital and place > start and not is_title
        if word.is_empty or len(word.text) < 3 or word.text.endswith("ly") or is_name:
            break
        if place > start and not word.follows:
            break
        place += 1
    return place


def _parts_of_name(words: Sequence[_Word]) -> Iterator[tuple[str, str, bool | None]]:
    """A name, and the names within it."""
    for start in range(len(words)):
        for end in range(start + 1, len(words) + 1):
            is_whole = end - start == len(words)
            first, last = words[start], words[end - 1]
            if not is_whole and (
                end - start > _LONGEST_PART
                or not (first.is_capital and last.is_capital)
                or (end - start == 1 and first.is_empty)
            ):
                continue
            part = words[start:end]
            yield " ".join(each.key for each in part), " ".join(each.text for each in part), True


def dump_extract(extract: Extract) -> dict[str, Any]:
    """As it is kept."""
    return {
        "mentions": [
            [each.key, each.name, each.count, each.num_named, each.num_common, each.sentences]
            for each in extract.mentions
        ],
        "aliases": [list(pair) for pair in extract.aliases],
        "relations": [[each.subject, each.words, each.object] for each in extract.relations],
    }


def load_extract(kept: Mapping[str, Any]) -> Extract:
    """What was kept."""
    return Extract(
        tuple(Mention(*row) for row in kept["mentions"]),
        tuple((short, long) for short, long in kept["aliases"]),
        tuple(Relation(*row) for row in kept["relations"]),
    )
