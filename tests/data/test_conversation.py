"""Loss masks: exactly the assistant's tokens and its end token, whatever template and tokenizer do."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core import ConfigError, InvalidRequestError
from cairn.core.chat import Message, ToolCall, ToolDefinition, text_message
from cairn.data import ChatTemplate, Tokenizer, encode_chat, end_of_turn_id, render_for_training
from cairn.data.chat_template import message_dict
from tests.data.test_chat_template import CHATML, CHATML_GENERATION, GEMMA, LLAMA3, MISTRAL, TURNS, theirs

# Without a word of their own, so that what a template trims or a tokenizer merges comes up often.
CONTENT = st.lists(
    st.sampled_from(
        ["hello", " ", "\n", "\n\n", "  x", "1", "é", "日", "'s", ".", "<|im_end|>", "<|eot_id|>", "</s>"]
    ),
    max_size=6,
).map("".join)


@st.composite
def conversations(draw: st.DrawFn, content: st.SearchStrategy[str] = CONTENT) -> list[Message]:
    """User and assistant in turn, the assistant last."""
    num = draw(st.integers(1, 3))
    return [text_message(role, draw(content)) for _ in range(num) for role in ("user", "assistant")]


def masked_texts(tokenizer: Tokenizer, messages: list[Message]) -> list[str]:
    """The text of every masked stretch."""
    example = render_for_training(tokenizer, messages)
    ids, mask = example.input_ids.tolist(), example.loss_mask.tolist()
    texts, held = [], []
    for token_id, is_masked in zip([*ids, -1], [*mask, False], strict=True):
        if is_masked:
            held.append(token_id)
        elif held:
            texts.append(tokenizer.decode(held))
            held = []
    return texts


@settings(max_examples=150, deadline=None)
@given(messages=conversations())
def test_default_template(tokenizer: Tokenizer, messages: list[Message]) -> None:
    expected = [f"{message.text}<|im_end|>" for message in messages if message.role == "assistant"]
    assert masked_texts(tokenizer, messages) == expected
    example = render_for_training(tokenizer, messages)
    ends = example.input_ids[example.loss_mask] == tokenizer.special_tokens["<|im_end|>"]
    assert ends.sum() == len(expected), "a control token in a message counts as text"


@settings(max_examples=100, deadline=None)
@given(messages=conversations())
def test_a_prompt_is_the_same_in_training_and_serving(tokenizer: Tokenizer, messages: list[Message]) -> None:
    ids = render_for_training(tokenizer, messages).input_ids.tolist()
    for place, message in enumerate(messages):
        if message.role == "assistant":
            prompt = encode_chat(tokenizer, messages[:place])
            assert ids[: len(prompt)] == prompt


@settings(max_examples=60, deadline=None)
@given(messages=conversations(), template=st.sampled_from([CHATML, CHATML_GENERATION]))
def test_with_and_without_generation_blocks(
    tokenizer: Tokenizer, messages: list[Message], template: str
) -> None:
    ours = tokenizer.with_chat_template(ChatTemplate(template))
    expected = [f"{message.text}<|im_end|>" for message in messages if message.role == "assistant"]
    assert masked_texts(ours, messages) == expected
    for place in (1, len(messages) - 1):
        prompt = encode_chat(ours, messages[:place])
        assert render_for_training(ours, messages).input_ids[: len(prompt)].tolist() == prompt


@settings(max_examples=60, deadline=None)
@given(messages=conversations())
@pytest.mark.parametrize(("family", "template"), [("llama3", LLAMA3), ("gemma", GEMMA)])
def test_templates_that_trim(
    foreign_folders: dict[str, Path], family: str, template: str, messages: list[Message]
) -> None:
    ours = _with_controls(Tokenizer.load(foreign_folders[family]), template)
    end = {"llama3": "<|eot_id|>", "gemma": "<end_of_turn>"}[family]
    expected = [f"{message.text.strip()}{end}" for message in messages if message.role == "assistant"]
    assert masked_texts(ours, messages) == expected


def _with_controls(tokenizer: Tokenizer, template: str) -> Tokenizer:
    return tokenizer.with_chat_template(ChatTemplate(template))


def test_masks_as_transformers_makes_them(
    foreign_folders: dict[str, Path], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    for template in (CHATML_GENERATION, tokenizer.chat_template.source if tokenizer.chat_template else ""):
        peer = theirs(tmp_path, template)
        made = peer.apply_chat_template(
            [message_dict(turn) for turn in TURNS],
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        example = render_for_training(tokenizer.with_chat_template(ChatTemplate(template)), TURNS)
        assert example.input_ids.tolist() == made["input_ids"]
        assert example.loss_mask.astype(int).tolist() == made["assistant_masks"]


@pytest.mark.parametrize(("family", "template"), [("llama3", LLAMA3), ("gemma", GEMMA), ("llama2", MISTRAL)])
def test_ids_as_transformers_makes_them(foreign_folders: dict[str, Path], family: str, template: str) -> None:
    ours = Tokenizer.load(foreign_folders[family]).with_chat_template(ChatTemplate(template))
    made = theirs(foreign_folders[family], template).apply_chat_template(
        [message_dict(turn) for turn in TURNS], tokenize=True, return_dict=True
    )
    assert render_for_training(ours, TURNS).input_ids.tolist() == made["input_ids"]
    assert encode_chat(ours, TURNS, add_generation_prompt=False) == made["input_ids"]


def test_a_space_before_the_text(foreign_folders: dict[str, Path]) -> None:
    ours = Tokenizer.load(foreign_folders["llama2"]).with_chat_template(ChatTemplate(MISTRAL))
    texts = masked_texts(ours, [text_message("user", "Hello"), text_message("assistant", "the cat")])
    assert texts == ["the cat</s>"]  # the decoder strips the space that begins the reply
    joined = MISTRAL.replace("' [/INST]'", "' [/INST] '").replace(
        "' ' + message['content'] + eos", "message['content'] + eos"
    )
    turns = [text_message("user", "Hello"), text_message("assistant", "the cat")]
    with pytest.raises(ConfigError, match="the tokenizer joins the prompt with the reply"):
        render_for_training(ours.with_chat_template(ChatTemplate(joined)), turns)
    with pytest.raises(InvalidRequestError, match="control tokens"):
        encode_chat(ours, [text_message("user", "a </s> b")])


def test_tool_calls_are_learned(tokenizer: Tokenizer) -> None:
    messages = [
        text_message("system", "Help."),
        text_message("user", "Weather?"),
        Message("assistant", tool_calls=(ToolCall("1", "weather", '{"city": "Rome"}'),)),
        Message("tool", text_message("user", "sunny").content, tool_call_id="1"),
        text_message("assistant", "Sunny."),
    ]
    tools = [ToolDefinition("weather")]
    example = render_for_training(tokenizer, messages, tools)
    learned = tokenizer.decode(example.input_ids[example.loss_mask].tolist())
    assert learned == (
        '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call><|im_end|>Sunny.<|im_end|>'
    )
    prompt = encode_chat(tokenizer, messages[:2], tools)
    assert example.input_ids[: len(prompt)].tolist() == prompt


def test_end_token_outside_the_block_is_learned(tokenizer: Tokenizer) -> None:
    template = CHATML_GENERATION.replace(
        r"{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}",
        r"{{ message['content'] }}{% endgeneration %}{{ '<|im_end|>\n' }}",
    )
    assert template != CHATML_GENERATION
    ours = tokenizer.with_chat_template(ChatTemplate(template))
    assert masked_texts(ours, TURNS[:2]) == [f"{TURNS[1].text}<|im_end|>"]
    with_newline = CHATML_GENERATION.replace(
        r"{% endgeneration %}{{ '\n' }}", r"{{ '\n' }}{% endgeneration %}"
    )
    assert with_newline != CHATML_GENERATION
    ours = tokenizer.with_chat_template(ChatTemplate(with_newline))
    assert masked_texts(ours, TURNS[:2]) == [f"{TURNS[1].text}<|im_end|>"]


def test_masks_that_cannot_be_exact(tokenizer: Tokenizer) -> None:
    no_end = "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    with pytest.raises(ConfigError, match="writes no end token after it"):
        render_for_training(tokenizer.with_chat_template(ChatTemplate(no_end)), TURNS)
    forgets = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{{ m.content if loop.last else m.content[:3] }}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    ours = tokenizer.with_chat_template(ChatTemplate(forgets))
    with pytest.raises(ConfigError, match="renders it differently"):
        render_for_training(ours, TURNS)
    assert encode_chat(ours, TURNS)  # serving needs no mask
    with pytest.raises(ConfigError, match="has no chat template"):
        encode_chat(tokenizer.with_chat_template(None), TURNS)


def test_end_of_turn(tokenizer: Tokenizer, foreign_folders: dict[str, Path]) -> None:
    assert end_of_turn_id(tokenizer) == tokenizer.special_tokens["<|im_end|>"]
    llama = Tokenizer.load(foreign_folders["llama3"]).with_chat_template(ChatTemplate(LLAMA3))
    assert end_of_turn_id(llama) == llama.special_tokens["<|eot_id|>"]
