"""What a head learns from shares nothing with what the sets hold out."""

from cairn.data import EvaluationIndex
from cairn.data.questions import Question
from cairn.lifecycle.stages.examples import _clean

SECRET = "A prime number is a natural number above one that is not a product of two smaller natural numbers."


def test_a_passage_that_shares_a_run_with_what_is_held_out_is_left_out_with_its_questions() -> None:
    held_out = EvaluationIndex({"set": [f"First words. {SECRET} Last words."]})
    clean = "The river rises in the hills and falls into the sea after forty miles of meadows and mills."
    rows = [("Which?", f"Of another set: {SECRET.upper()}"), ("What?", clean), ("Where?", clean)]
    questions = [Question(text, passage, ("x",), None, "g") for text, passage in rows]
    assert [each.text for each in _clean(questions, held_out)] == ["What?", "Where?"]
