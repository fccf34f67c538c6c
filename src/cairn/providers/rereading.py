"""Replay of an answer that was read out of passages: the same reader, the same passages, the same words?"""

from cairn.core.chat import text_message
from cairn.core.errors import IntegrityError, NotFoundError
from cairn.core.retrieval import Hit
from cairn.providers.answering import answer_json, question_of
from cairn.providers.grounding import closest_answer
from cairn.providers.knowledge import Library
from cairn.registry import Receipt
from cairn.retrieval.reading import given_passages


def reread(library: Library, receipt: Receipt) -> dict[str, int] | None:
    """Where the answer stands this time; None where the reader finds none, as in the receipt."""
    passages = given_passages(library.registry.database, receipt.request["sources"], None)
    if passages is None:
        raise NotFoundError(
            f"a passage that {receipt.receipt_id} was made from is gone or has changed",
            remedy="ask again: the answer may be another one now",
        )
    reader = library.reader() if receipt.artifact else None
    if reader is None:
        if receipt.artifact:
            raise NotFoundError(f"the reader {receipt.artifact} is not here")
        return None
    if reader.artifact_digest != receipt.artifact:
        raise IntegrityError(
            f"it was read by {receipt.artifact}, the reader here is {reader.artifact_digest}",
            remedy="point the name reader to the one that the receipt names",
        )
    turns = [text_message(each["role"], each["content"]) for each in receipt.request["messages"]]
    question, _ = question_of(turns)
    return answer_json(closest_answer(reader, question, [Hit(each, 0.0) for each in passages]))
