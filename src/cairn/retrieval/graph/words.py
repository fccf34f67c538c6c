"""Words as the graph compares them: without case and plural, abbreviations apart from the words they spell.

The rules are those of English orthography; other scripts without capitals have no names here, only terms.
"""

import re
from functools import lru_cache

from cairn.retrieval.query_words import COMMON

WORD = re.compile(r"[^\W_]+(?:[-'’.&][^\W_]+)*")
_ABBREVIATION = re.compile(r"(?:[A-Z]\.?){2,}[0-9]*(?=s?$)")
CONNECTORS = frozenset(WORD.findall("of de del der di du la le van von al bin ibn the"))
"""Words that may stand inside a name in lower case."""
_EMPTY = COMMON | frozenset(
    WORD.findall(
        "according across actually almost along already also although always among amongst another anything "
        "around away became become becomes becoming began besides best better beyond came cannot certain "
        "come comes currently despite done eight either else especially even ever every everyone everything "
        "far few first five following former found four furthermore gave generally get gets give given gives "
        "go goes gone good got great hence however including indeed instead it's its just kept knew know "
        "known large last later latter least less like little long made mainly make makes making many may "
        "maybe mean means meanwhile might moreover mostly much must nearly need needs neither never "
        "nevertheless new next nine none nor nothing notably now number often old one ones onto others "
        "otherwise part particular particularly per perhaps probably put quite rather really said same saw "
        "say says second see seem seems seen set seven several shall since six small someone something "
        "sometimes soon still take taken takes tell ten though three throughout thus today together took "
        "toward towards two type types unless unlike upon us use used uses using usually various via want "
        "way ways well went whatever whenever whereas wherein whether within without would yet"
    )
)


@lru_cache(1 << 16)
def is_empty(word: str) -> bool:
    """Whether a word names nothing: it is common, a number, or a letter alone."""
    plain = word.lower()
    return len(plain) < 2 or plain in _EMPTY or not any(c.isalpha() for c in plain) or plain.endswith("n't")


@lru_cache(1 << 16)
def word_key(word: str, *, keep_case: bool = True) -> str:
    """What a word is known by; that of an abbreviation is in capitals."""
    plain = word.replace("’", "'").removesuffix("'s").removesuffix("'")
    abbreviation = _ABBREVIATION.match(plain) if keep_case else None
    if abbreviation is not None:
        return abbreviation.group().replace(".", "")
    return singular(plain.lower().replace(".", ""))


def singular(word: str) -> str:
    """A word in lower case without its plural ending (Harman 1991, "How Effective Is Suffixing?")."""
    if len(word) < 4 or not word.endswith("s"):
        return word
    if word.endswith("ies") and word[-4] not in "ae":
        return word[:-3] + "y"
    return word if word[-2] in "usi" else word[:-1]
