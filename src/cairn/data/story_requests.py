"""Stories turned into requests for them: "Tell me a story about a fox and a crow."

A story is asked for by its most telling nouns (tf-idf over the set), so that no model or chance is involved.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[a-z]{3,}")
_COMMON = 0.08
"""Words in more than this share of the stories (little, day, big) say nothing about one of them."""
_NOUN = re.compile(
    r"\b[Aa]n?(?: [a-z]+){0,2}? ([a-z]{3,})"
    r"(?=[.,!?]| (?:and|was|in|on|with|that|to|who|named|called|but|for|at|from)\b)"
)


def story_requests(stories: Sequence[str], training: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(request, story) of the stories that have a telling word; words are weighed over `training`."""
    counts = count_stories(training)
    for story in stories:
        if subject := subject_of(story, counts):
            yield f"Tell me a story about {subject}.", story


@dataclass(frozen=True, slots=True)
class StoryCounts:
    """How many stories there are, and how many hold each word."""

    stories: int
    of_word: Counter[str]


def count_stories(stories: Sequence[str]) -> StoryCounts:
    """The counts over a set of stories."""
    words = (word for story in stories for word in set(_WORD.findall(story.lower())))
    return StoryCounts(len(stories), Counter(words))


def subject_of(story: str, counts: StoryCounts) -> str:
    """`a kayak and a lake`: the two most telling nouns of a story that occur in it more than once."""
    words = Counter(_WORD.findall(story.lower()))
    weights = {
        noun: words[noun] * math.log(counts.stories / max(counts.of_word[noun], 1))
        for noun in set(_NOUN.findall(story))
        if words[noun] > 1 and counts.of_word[noun] < _COMMON * counts.stories
    }
    best = sorted(weights, key=lambda noun: (-weights[noun], noun))[:2]
    return " and ".join(f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}" for noun in best)
