"""English words without their endings: the Snowball stemmer "English" (Porter2).

Martin Porter, https://snowballstem.org/algorithms/english/stemmer.html. Words come in lower case;
one that has a letter beyond a-z is left as it is. Held against the authors' own implementation in the tests.
"""

import re
from functools import lru_cache

_WHOLE = {
    "skis": "ski", "skies": "sky", "idly": "idl", "gently": "gentl", "ugly": "ugli", "early": "earli",
    "only": "onli", "singly": "singl", "sky": "sky", "news": "news", "howe": "howe", "atlas": "atlas",
    "cosmos": "cosmos", "bias": "bias", "andes": "andes",
}  # fmt: skip
_AFTER_1A = frozenset(
    ("inning", "outing", "canning", "herring", "earring", "proceed", "exceed", "succeed", "evening")
)
_REGION = re.compile("[aeiouy][^aeiouy]")
_R1_PREFIX = re.compile("gener|commun|arsen|past|univers|later|emerg|organ|inter")
_VOWEL = re.compile("[aeiouy]")
_SHORT = re.compile("(?:[^aeiouy][aeiouy][^aeiouywxY]|^[aeiouy][^aeiouy]|^past)$")
_CONSONANT_Y = re.compile("(^|[aeiouy])y")
_STEP_1B = re.compile("(eedly|eed|ingly|edly|ing|ed)$")
_DOUBLE = re.compile("(bb|dd|ff|gg|mm|nn|pp|rr|tt)$")
_STEP_2 = {
    "tional": "tion", "enci": "ence", "anci": "ance", "abli": "able", "entli": "ent", "izer": "ize",
    "ization": "ize", "ational": "ate", "ation": "ate", "ator": "ate", "alism": "al", "aliti": "al",
    "alli": "al", "fulness": "ful", "ousli": "ous", "ousness": "ous", "iveness": "ive", "iviti": "ive",
    "biliti": "ble", "bli": "ble", "fulli": "ful", "lessli": "less", "ogist": "og",
}  # fmt: skip
_STEP_3 = {
    "tional": "tion", "ational": "ate", "alize": "al", "icate": "ic", "iciti": "ic", "ical": "ic",
    "ful": "", "ness": "",
}  # fmt: skip
_STEP_4 = (
    "ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ism", "ate", "iti", "ous", "ive", "ize",
    "al", "er", "ic",
)  # fmt: skip
_STEP_2_ENDS = sorted((*_STEP_2, "ogi", "li"), key=len, reverse=True)
_STEP_3_ENDS = sorted((*_STEP_3, "ative"), key=len, reverse=True)
_LI = frozenset("cdeghkmnrt")


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """`connections` -> `connect`."""
    if len(word) < 3 or not (word.isascii() and word.replace("'", "").isalpha()):
        return word
    if word in _WHOLE:
        return _WHOLE[word]
    word = word.lstrip("'")
    word = _CONSONANT_Y.sub(r"\1Y", word)
    r1, r2 = _regions(word)
    word = _step_1a(word.removesuffix("'").removesuffix("'s"))
    if word in _AFTER_1A:
        return word
    word = _step_1c(_step_1b(word, r1))
    word = _step_3(_step_2(word, r1), r1, r2)
    return _step_5(_step_4(word, r2), r1, r2).replace("Y", "y")


def _regions(word: str) -> tuple[int, int]:
    prefix = _R1_PREFIX.match(word)
    found = prefix or _REGION.search(word)
    r1 = found.end() if found else len(word)
    again = _REGION.search(word, r1)
    return r1, again.end() if again else len(word)


def _step_1a(word: str) -> str:
    if word.endswith("sses"):
        return word[:-2]
    if word.endswith(("ied", "ies")):
        return word[:-2] if len(word) > 4 else word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and _VOWEL.search(word[:-2]):
        return word[:-1]
    return word


def _step_1b(word: str, r1: int) -> str:
    found = _STEP_1B.search(word)
    if found is None:
        return word
    rest = word[: found.start()]
    if found.group().startswith("ee"):
        return rest + "ee" if found.start() >= r1 else word
    if not _VOWEL.search(rest):
        return word
    if len(rest) == 2 and rest[1] == "y" and rest[0] not in "aeiouy" and found.group() == "ing":
        return rest[0] + "ie"
    if rest.endswith(("at", "bl", "iz")):
        return rest + "e"
    if _DOUBLE.search(rest):
        return rest if len(rest) == 3 and rest[0] in "aeo" else rest[:-1]
    return rest + "e" if len(rest) <= r1 and _SHORT.search(rest) else rest


def _step_1c(word: str) -> str:
    if len(word) > 2 and word[-1] in "yY" and word[-2] not in "aeiouy":
        return word[:-1] + "i"
    return word


def _step_2(word: str, r1: int) -> str:
    end = next((each for each in _STEP_2_ENDS if word.endswith(each)), None)
    if end is None or len(word) - len(end) < r1:
        return word
    rest = word[: -len(end)]
    if end == "ogi":
        return word[:-1] if rest.endswith("l") else word
    if end == "li":
        return rest if rest and rest[-1] in _LI else word
    return rest + _STEP_2[end]


def _step_3(word: str, r1: int, r2: int) -> str:
    end = next((each for each in _STEP_3_ENDS if word.endswith(each)), None)
    if end is None or len(word) - len(end) < r1:
        return word
    rest = word[: -len(end)]
    if end == "ative":
        return rest if len(rest) >= r2 else word
    return rest + _STEP_3[end]


def _step_4(word: str, r2: int) -> str:
    end = next((each for each in _STEP_4 if word.endswith(each)), None)
    if end is not None:
        return word[: -len(end)] if len(word) - len(end) >= r2 else word
    if word.endswith(("sion", "tion")) and len(word) - 3 >= r2:
        return word[:-3]
    return word


def _step_5(word: str, r1: int, r2: int) -> str:
    rest = word[:-1]
    if word.endswith("e") and (len(rest) >= r2 or (len(rest) >= r1 and not _SHORT.search(rest))):
        return rest
    return rest if word.endswith("ll") and len(rest) >= r2 else word
