import math

import pytest

from cairn.core import InvalidRequestError
from cairn.core.chat import ImagePart, Message, SamplingParams, TextPart, text_message


def test_text_joins_the_text_parts() -> None:
    message = Message("user", (TextPart("a"), ImagePart("data:,"), TextPart("b")))
    assert message.text == "ab"
    assert text_message("user", "x").text == "x"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", -1),
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("top_k", -1),
        ("top_p", 0),
        ("top_p", 1.1),
        ("min_p", 2),
        ("repetition_penalty", 0),
        ("presence_penalty", 2.5),
        ("frequency_penalty", math.inf),
        ("n", 0),
        ("stop", ("",)),
        ("stop", ("a",) * 17),
        ("logprobs", 21),
        ("prompt_logprobs", -1),
        ("logit_bias", {1: 101}),
        ("logit_bias", {-1: 0}),
    ],
)
def test_values_out_of_range_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as error:
        SamplingParams(**{name: value})  # type: ignore[arg-type]
    assert error.value.param == name
    assert "allowed" in error.value.message


def test_limits_themselves_are_allowed() -> None:
    SamplingParams(max_tokens=0, temperature=0, top_p=1, min_p=1, n=128, logprobs=0, stop=("x",) * 16)
