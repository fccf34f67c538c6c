"""Who follows the template."""

import pytest

from cairn.data import Tokenizer
from cairn.evaluation import Reply, template_following


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["a fox and a crow " * 50], vocab_size=300)


def test_form_is_judged_on_token_ids(tokenizer: Tokenizer) -> None:
    end = tokenizer.special_tokens["<|im_end|>"]
    start = tokenizer.special_tokens["<|im_start|>"]
    text = tuple(tokenizer.encode("a fox"))
    replies = [
        Reply("ends", (*text, end)),
        Reply("goes on", text),
        Reply("leaks", (*text, start, *text, end)),
        Reply("says nothing", (end,)),
    ]
    found = template_following(replies, tokenizer, [end])
    assert found.num_replies == 4
    assert found.ended == 3 / 4
    assert found.clean == 3 / 4
    assert found.answered == 3 / 4
    assert found.mean_tokens == pytest.approx((len(text) * 4 + 1) / 4)


def test_no_replies_follow_nothing(tokenizer: Tokenizer) -> None:
    assert template_following([], tokenizer, [0]).ended == 0.0
