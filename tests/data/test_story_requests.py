"""Requests made from stories."""

from cairn.data.story_requests import count_stories, story_requests, subject_of

OTHERS = ["One day a boy saw the sun. The boy was glad." for _ in range(40)]
STORY = "There was a fox and an old crow. The fox liked the crow. One day a boy came. The boy ran."


def test_a_story_is_asked_for_by_its_telling_nouns() -> None:
    counts = count_stories([*OTHERS, STORY])
    assert subject_of(STORY, counts) == "a crow and a fox"
    assert subject_of(OTHERS[0], counts) == ""


def test_stories_without_a_telling_word_are_left_out() -> None:
    asked = list(story_requests([*OTHERS, STORY], [*OTHERS, STORY]))
    assert asked == [("Tell me a story about a crow and a fox.", STORY)]
