"""Answers from passages: the extracted one with its source, and the check of a generated one's citations.

A sentence of a generated answer is supported when every source it cites is there and at least half of its
telling words stand in them. That is a check of words: one that turns its source's meaning round with its
source's words passes.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cairn.core.chat import Message, text_message
from cairn.core.retrieval import Hit, Reader
from cairn.retrieval.context import Context
from cairn.retrieval.highlights import highlights
from cairn.retrieval.splitting import lines, sentences

LEAST_CONFIDENCE = 0.5
"""Below it an extracted answer is not given."""
_SPANS_PER_PASSAGE = 3
_RANK_POWER = 0.5
"""How much a passage's place counts. On questions of XQuAD's training articles over five passages, F1 is 68
without it and 70 from here up; the reader has seen these questions."""
_LEAST_SUPPORT = 0.5
_LONGEST_SENTENCE = 400  # characters
_CITED = re.compile(r"\[(\d{1,4})\]")
_SENTENCE = re.compile(r"(?<=[.!?])(?:\s*\[\d{1,4}\])*\s+(?=\S)")
_INSTRUCTIONS = (
    "Answer the question from the numbered sources alone. After each sentence name the sources it rests on, "
    "such as [1]. When they do not hold the answer, say so."
)


@dataclass(frozen=True, slots=True)
class ExtractedAnswer:
    """Words of a passage that answer a question."""

    text: str
    source: int
    """Number of the passage, from 1."""
    start: int
    """Characters of the passage's text."""
    confidence: float

    @property
    def end(self) -> int:
        """Behind its last character."""
        return self.start + len(self.text)

    @property
    def is_sure(self) -> bool:
        """Whether it is likely enough to be given as the answer."""
        return self.confidence >= LEAST_CONFIDENCE


@dataclass(frozen=True, slots=True)
class CheckedSentence:
    """A sentence of a generated answer, and what it rests on."""

    text: str
    sources: tuple[int, ...]
    is_supported: bool
    start: int
    """Characters of the answer."""

    @property
    def end(self) -> int:
        """Behind its last character."""
        return self.start + len(self.text)


def closest_answer(reader: Reader, question: str, hits: Sequence[Hit]) -> ExtractedAnswer | None:
    """The words of the passages that most likely answer, sure or not; None where there are none."""
    texts = [hit.passage.text for hit in hits]
    spans = reader.read(question, texts, limit=_SPANS_PER_PASSAGE * len(texts)) if texts else []
    if not spans:
        return None
    best = max(spans, key=lambda span: _odds(span.confidence) / (span.passage + 1) ** _RANK_POWER)
    return ExtractedAnswer(best.text, best.passage + 1, best.start, best.confidence)


def _odds(confidence: float) -> float:
    return confidence / max(1.0 - confidence, 1e-9)


def extract_answer(reader: Reader, question: str, hits: Sequence[Hit]) -> ExtractedAnswer | None:
    """The answer that stands in the passages; None when none is likely to be one."""
    best = closest_answer(reader, question, hits)
    return best if best is not None and best.is_sure else None


def sentence_around(text: str, answer: ExtractedAnswer) -> tuple[int, int]:
    """Where the sentence of a passage stands that holds an answer; its line where no short one does."""
    for cut in (sentences, lines):
        start = 0
        for piece in cut(text):
            end = start + len(piece)
            if start <= answer.start and answer.end <= end and len(piece.strip()) <= _LONGEST_SENTENCE:
                return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
            start = end
    return answer.start, answer.end


def grounded_messages(messages: Sequence[Message], context: Context) -> tuple[Message, ...]:
    """What a chat model is asked: its last question comes with the sources, and how to use them with all."""
    told = [message.text for message in messages if message.role == "system"]
    system = text_message("system", "\n\n".join([*told, _INSTRUCTIONS]))
    turns = [message for message in messages if message.role != "system"]
    last = max(place for place, turn in enumerate(turns) if turn.role == "user")
    asked = f"Sources:\n\n{context.text or '(none)'}\n\nQuestion: {turns[last].text}"
    return (system, *turns[:last], text_message("user", asked), *turns[last + 1 :])


def check_sentences(answer: str, context: Context) -> list[CheckedSentence]:
    """Each sentence of an answer with its sources, held against them."""
    ends = [match.end() for match in _SENTENCE.finditer(answer)]
    found = []
    for start, end in zip([0, *ends], [*ends, len(answer)], strict=True):
        if sentence := answer[start:end].strip():
            found.append(_checked(sentence, answer.index(sentence, start), context))
    return found


def marks(text: str) -> dict[int, int]:
    """The numbers of the sources that a text cites, and where each is first cited."""
    found: dict[int, int] = {}
    for match in _CITED.finditer(text):
        found.setdefault(int(match[1]), match.start())
    return found


def _checked(sentence: str, start: int, context: Context) -> CheckedSentence:
    numbers = marks(sentence)
    sources = [source for number in numbers if (source := context.source(number)) is not None]
    said = _CITED.sub("", sentence)
    # Which words of the sentence would be found by a search for each source, and how many tell anything.
    telling = len(highlights(said, said))
    found = {span for source in sources for span in highlights(source.passage.text, said)}
    is_supported = bool(sources) and len(sources) == len(numbers) and len(found) >= _LEAST_SUPPORT * telling
    return CheckedSentence(sentence, tuple(source.number for source in sources), is_supported, start)
