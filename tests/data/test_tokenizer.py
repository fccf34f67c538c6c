"""Training, round trips, bytes of tokens, and parity with transformers in both directions."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core import ConfigError, NotFoundError, UnsupportedModelError
from cairn.data import Tokenizer, check_fits, word_encoder
from tests.data.conftest import CORPUS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
PIECES = ["the", " cat", "'s", "’ll", "'LL", "  ", "12", "²", "½", "é", "ſ", "日本", "…", "—", "🙂", "!", "."]
ODD = [
    "\n",
    "\r\n",
    "\t",
    "\u0301",
    "\x1c",
    "\x85",
    "\u3000",
    "\U00010400",
    "\U000323b0",
    "<|im_end|>",
    "<tool_call>",
]
MIXED = st.lists(st.sampled_from(PIECES + ODD), max_size=12).map("".join)


@settings(max_examples=150, deadline=None)
@given(text=TEXT | MIXED)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert b"".join(map(tokenizer.token_bytes, ids)) == text.encode()
    assert not set(ids) & set(tokenizer.special_tokens.values())


@settings(max_examples=300, deadline=None)
@given(text=TEXT | MIXED)
def test_remembered_words_give_the_same_ids(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode_array(text).tolist() == tokenizer.encode(text)


@settings(max_examples=100, deadline=None)
@given(left=TEXT | MIXED, right=TEXT | MIXED)
def test_special_tokens_only_when_allowed(tokenizer: Tokenizer, left: str, right: str) -> None:
    text = f"{left}<|im_end|>{right}"
    assert tokenizer.special_tokens["<|im_end|>"] in tokenizer.encode(text, allow_special=True)
    assert tokenizer.special_tokens["<|im_end|>"] not in tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_transformers_opens_what_was_saved(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    )
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*CORPUS[:4], "a  b\n\n c", "<|im_start|>user\nhi<|im_end|>", ""]:
        assert theirs(text)["input_ids"] == tokenizer.encode(text, allow_special=True)
    assert theirs.eos_token_id == tokenizer.eos_token_id
    assert len(theirs) == tokenizer.vocab_size
    assert Tokenizer.load(tmp_path).encode(CORPUS[0]) == tokenizer.encode(CORPUS[0])
    assert Tokenizer.load(tmp_path).chat_template == tokenizer.chat_template


@pytest.mark.parametrize("family", ["gpt2", "llama3", "llama2", "gemma"])
def test_opens_what_transformers_saved(foreign_folders: dict[str, Path], family: str) -> None:
    from transformers import AutoTokenizer

    ours = Tokenizer.load(foreign_folders[family])
    theirs = AutoTokenizer.from_pretrained(foreign_folders[family])
    for text in [*CORPUS[:4], "one  two\n three", "Ünïcödé ☃ 𝒳"]:
        ids = ours.encode(text)
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, add_bos=True) == theirs(text)["input_ids"]
        assert ours.decode(ids) == theirs.decode(ids, clean_up_tokenization_spaces=False)
        joined = b"".join(map(ours.token_bytes, ids)).decode()
        assert joined.removeprefix(" " if family == "llama2" else "") == text
    assert ours.eos_token_id == theirs.eos_token_id
    assert ours.bos_token_id == theirs.bos_token_id
    assert ours.is_concatenative == (family != "llama2")


@settings(max_examples=60, deadline=None)
@given(text=TEXT)
def test_bytes_of_tokens_of_every_family(foreign_folders: dict[str, Path], text: str) -> None:
    for family in ("gpt2", "llama3", "gemma"):
        ours = _loaded(foreign_folders[family])
        # Sentencepiece writes a space as U+2581, so it cannot tell the two apart.
        expected = text.replace("▁", " ") if family == "gemma" else text
        assert b"".join(map(ours.token_bytes, ours.encode(text))) == expected.encode()


_LOADED: dict[Path, Tokenizer] = {}


def _loaded(folder: Path) -> Tokenizer:
    if folder not in _LOADED:
        _LOADED[folder] = Tokenizer.load(folder)
    return _LOADED[folder]


def test_training_is_repeatable(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cairn.data import Tokenizer\n"
        "from tests.data.conftest import CORPUS\n"
        "Tokenizer.train(CORPUS, vocab_size=600).save(Path(sys.argv[1]))"
    )
    saved = []
    for name in ("a", "b"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True)
        saved.append((tmp_path / name / "tokenizer.json").read_bytes())
    assert saved[0] == saved[1]


def test_digits_are_split() -> None:
    tokenizer = Tokenizer.train(["2024 2024 2024 1999 1999"] * 50, vocab_size=400)
    assert len(tokenizer.encode("2024")) == 4


def test_a_small_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigError, match="vocab_size is 100, allowed: 263 or more"):
        Tokenizer.train(CORPUS, vocab_size=100)


def test_check_fits(tokenizer: Tokenizer) -> None:
    check_fits(tokenizer, tokenizer.vocab_size)
    check_fits(tokenizer, tokenizer.vocab_size + 64)
    with pytest.raises(UnsupportedModelError, match="does not fit the model"):
        check_fits(tokenizer, tokenizer.vocab_size - 1)


def test_decode_refuses_unknown_ids(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="outside the vocabulary"):
        tokenizer.decode([tokenizer.vocab_size])
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([tokenizer.encode("日")[0]]) == "\ufffd"


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"\x00")
    with pytest.raises(UnsupportedModelError, match="holds a tokenizer, but no"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UnsupportedModelError, match="not a tokenizer that can be opened"):
        Tokenizer.load(tmp_path)


def test_a_broken_config_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json holds list"):
        Tokenizer.load(tmp_path)


def test_a_template_that_is_no_text_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe{{ messages }}")
    with pytest.raises(ConfigError, match=r"chat_template\.jinja is not UTF-8"):
        Tokenizer.load(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    path = tmp_path / "tokenizer_config.json"
    for template in ([5], [{"name": "default"}], [{"name": ["default"]}], {"default": "x"}):
        path.write_text(json.dumps({"chat_template": template}))
        assert Tokenizer.load(tmp_path).chat_template is None


class BatchesOnly:
    """A backend of which only the calls that give up the interpreter lock are used."""

    def __init__(self, backend: Any) -> None:
        self.encode_batch = backend.encode_batch
        self.encode_batch_fast = backend.encode_batch_fast


def test_a_long_text_holds_up_no_other_thread(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(CORPUS * 40)
    ids = tokenizer._backend.encode(text, add_special_tokens=False).ids
    monkeypatch.setattr(tokenizer, "_encoder", lambda _: BatchesOnly(tokenizer._backend))
    assert tokenizer.encode(text) == ids
    assert tokenizer.encode_with_offsets(text)[0] == ids


def test_byte_lengths_add_up(tokenizer: Tokenizer) -> None:
    lengths = tokenizer.byte_lengths
    for text in CORPUS[:4]:
        assert sum(lengths[i] for i in tokenizer.encode(text)) == len(text.encode())
    assert lengths[tokenizer.special_tokens["<|im_end|>"]] == 0


def test_the_memory_of_words_is_bounded(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_encoder, "_MAX_WORDS", 5)
    encoder = word_encoder.WordEncoder(tokenizer._backend)
    for text in CORPUS[:4] * 2:
        ids = encoder.encode(text)
        assert ids is not None
        assert ids.tolist() == tokenizer.encode(text)


@pytest.mark.parametrize("form", ["text", "list"])
def test_a_template_inside_the_config(tokenizer: Tokenizer, tmp_path: Path, form: str) -> None:
    tokenizer.with_chat_template(None).save(tmp_path)
    assert Tokenizer.load(tmp_path).chat_template is None
    path = tmp_path / "tokenizer_config.json"
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "yes"}]
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"chat_template": "yes" if form == "text" else named})
    )
    loaded = Tokenizer.load(tmp_path)
    assert loaded.chat_template is not None
    assert loaded.chat_template.source == "yes"
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "chat_template.jinja").read_text() == "yes"
