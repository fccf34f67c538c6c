"""Tokenizer: text to token ids and back, in the Hugging Face layout.

Training makes a byte-level BPE (Sennrich et al. 2016; Radford et al. 2019), so any text comes back
unchanged. A saved folder is opened by transformers' AutoTokenizer with the same ids, and `load`
opens what transformers saved: byte-level and sentencepiece-like BPE with byte fallback.

Text from outside never becomes a control token: `encode` reads special tokens as plain text unless
`allow_special` says otherwise. Not covered: WordPiece and Unigram, and a bare `tokenizer.model`.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from cairn.core.errors import ConfigError, NotFoundError, StorageError, UnsupportedModelError
from cairn.data.chat_template import DEFAULT_TEMPLATE, ChatTemplate
from cairn.data.split_pattern import SPLIT_PATTERN
from cairn.data.token_bytes import token_byte_table
from cairn.data.word_encoder import WordEncoder

END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|im_end|>"
CONTROL_TOKENS = (END_OF_TEXT, "<|im_start|>", END_OF_TURN)
# Visible to whoever reads a reply, as in Qwen's tokenizers: they are content, not control.
TOOL_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")

_LONG_CHARACTERS = 4000
"""Shorter texts are not worth the way to the backend's threads."""
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"


class Tokenizer:
    """A trained tokenizer with its special tokens and chat template. Immutable once made."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        config: Mapping[str, Any],
        chat_template: ChatTemplate | None = None,
    ) -> None:
        self._backend = backend
        self._literal: tokenizers.Tokenizer | None = None
        self._config = dict(config)
        self._byte_table: list[bytes] | None = None
        self.chat_template = chat_template
        added = backend.get_added_tokens_decoder()
        self.special_tokens: dict[str, int] = {
            token.content: token_id for token_id, token in sorted(added.items()) if token.special
        }
        vocab = backend.get_vocab(with_added_tokens=True)
        self.vocab_size: int = max(vocab.values(), default=-1) + 1
        self.bos_token = _token_text(config.get("bos_token"))
        self.eos_token = _token_text(config.get("eos_token"))
        self.bos_token_id = vocab.get(self.bos_token) if self.bos_token else None
        self.eos_token_id = vocab.get(self.eos_token) if self.eos_token else None
        self._prefix = self._find_prefix()
        longest_first = sorted(self.special_tokens, key=len, reverse=True)
        self.control_pattern = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocab_size: int,
        special_tokens: Sequence[str] = CONTROL_TOKENS,
        tool_tokens: Sequence[str] = TOOL_TOKENS,
        chat_template: ChatTemplate | None = DEFAULT_TEMPLATE,
        min_frequency: int = 2,
    ) -> Self:
        """Learn a byte-level BPE of `vocab_size` tokens; the first special token ends every document."""
        least = 256 + len(special_tokens) + len(tool_tokens)
        if vocab_size < least:
            raise ConfigError(
                f"vocab_size is {vocab_size}, allowed: {least} or more (256 bytes and the special tokens)",
                remedy="raise vocab_size",
            )
        backend = tokenizers.Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - len(special_tokens) - len(tool_tokens),
            min_frequency=min_frequency,
            show_progress=False,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        )
        backend.train_from_iterator(texts, trainer)
        # Added after training, so that the bytes have the first 256 ids and the control tokens the last.
        backend.add_special_tokens(
            [AddedToken(text, special=True, normalized=False) for text in special_tokens]
        )
        backend.add_tokens([AddedToken(text, special=False, normalized=False) for text in tool_tokens])
        config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        if special_tokens:
            config |= dict.fromkeys(("bos_token", "eos_token", "pad_token"), special_tokens[0])
        return cls(backend, config, chat_template)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open `tokenizer.json` with its config and chat template; errors name the file."""
        path = folder / TOKENIZER_FILE
        if not path.is_file():
            raise _nothing_to_load(folder)
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001 (the backend raises bare Exception for every bad file)
            raise UnsupportedModelError(
                f"{path} is not a tokenizer that can be opened: {error}",
                remedy="save it again with transformers' save_pretrained, or fetch the file again",
            ) from None
        backend.no_padding()
        backend.no_truncation()
        config = _read_json(folder / CONFIG_FILE)
        for key, value in _read_json(folder / "special_tokens_map.json").items():
            config.setdefault(key, value)
        return cls(backend, config, _read_template(folder, config.pop("chat_template", None)))

    def save(self, folder: Path) -> None:
        """Write the files that `load` and transformers' AutoTokenizer open."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._backend.save(str(folder / TOKENIZER_FILE), pretty=False)
            text = json.dumps(self._config, indent=2, ensure_ascii=False, sort_keys=True)
            (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
            if self.chat_template is not None:
                (folder / TEMPLATE_FILE).write_text(self.chat_template.source, encoding="utf-8")
        except OSError as error:
            raise StorageError(f"cannot save the tokenizer in {folder}: {error.strerror}") from None

    def to_json(self) -> str:
        """The content of tokenizer.json."""
        return str(self._backend.to_str())

    def with_chat_template(self, chat_template: ChatTemplate | None) -> "Tokenizer":
        """The same tokenizer with another chat template."""
        return Tokenizer(self._backend, self._config, chat_template)

    def encode(self, text: str, *, allow_special: bool = False, add_bos: bool = False) -> list[int]:
        """Token ids of a text. `add_bos` puts first what the tokenizer itself puts before a text."""
        encoder = self._encoder(allow_special)
        if len(text) > _LONG_CHARACTERS:
            # Outside the interpreter lock, which `encode` of the backend keeps for all its seconds.
            encoding = encoder.encode_batch_fast([text], add_special_tokens=False)[0]
        else:
            encoding = encoder.encode(text, add_special_tokens=False)
        ids: list[int] = encoding.ids
        return [*self._prefix, *ids] if add_bos else ids

    def encode_array(self, text: str) -> NDArray[np.uint32]:
        """`encode` of a long ordinary text as an array; faster where words repeat (see `word_encoder`)."""
        ids = None
        if self._can_split and not self._added_pattern.search(text):
            ids = self._word_encoder.encode(text)
        return np.array(self.encode(text), np.uint32) if ids is None else ids

    def encode_with_offsets(
        self, text: str, *, allow_special: bool = False
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids and the character span of `text` each comes from."""
        encoding = self._encoder(allow_special).encode_batch([text], add_special_tokens=False)[0]
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of token ids; bytes that are no UTF-8 become U+FFFD. Unknown ids are an error."""
        if len(ids) and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            raise ConfigError(f"token id {max(ids)} is outside the vocabulary of {self.vocab_size}")
        return str(self._backend.decode(ids, skip_special_tokens=skip_special))

    def token_bytes(self, token_id: int) -> bytes:
        """The raw bytes a token stands for; an id without a token has none."""
        if self._byte_table is None:
            self._byte_table = token_byte_table(self._backend, self.vocab_size)
        return self._byte_table[token_id]

    def token_id(self, token: str) -> int | None:
        """The id of a token by its exact text in the vocabulary (`<|im_end|>`), or None."""
        token_id: int | None = self._backend.token_to_id(token)
        return token_id

    @cached_property
    def is_concatenative(self) -> bool:
        """Whether text may be encoded in pieces: no space is put before a text (as Llama 2's does)."""
        return b"".join(map(self.token_bytes, self.encode("a"))) == b"a"

    @cached_property
    def _can_split(self) -> bool:
        """Whether text is split by our own pattern and nothing else, so that `WordEncoder` may be used."""
        spec = json.loads(self._backend.to_str())
        steps = (spec.get("pre_tokenizer") or {}).get("pretokenizers") or [{}]
        is_ours = (
            steps[0].get("pattern") == {"Regex": SPLIT_PATTERN} and steps[0].get("behavior") == "Isolated"
        )
        is_plain = spec.get("normalizer") is None and not (spec.get("model") or {}).get("dropout")
        return is_ours and is_plain and len(steps) == 2 and steps[1].get("type") == "ByteLevel"

    @cached_property
    def _word_encoder(self) -> WordEncoder:
        return WordEncoder(self._backend)

    @cached_property
    def _added_pattern(self) -> re.Pattern[str]:
        """Added tokens that are read as such in ordinary text: those that are not special."""
        added = self._backend.get_added_tokens_decoder().values()
        return re.compile(
            "|".join(re.escape(token.content) for token in added if not token.special) or "(?!)"
        )

    @property
    def byte_lengths(self) -> list[int]:
        """Length of `token_bytes` for every id; special tokens count 0, as they are no text."""
        special = set(self.special_tokens.values())
        return [0 if i in special else len(self.token_bytes(i)) for i in range(self.vocab_size)]

    def _encoder(self, allow_special: bool) -> tokenizers.Tokenizer:
        if allow_special:
            return self._backend
        if self._literal is None:
            # The backend has one switch for all callers, so reading special tokens as text takes a copy.
            literal = tokenizers.Tokenizer.from_str(self._backend.to_str())
            literal.encode_special_tokens = True
            self._literal = literal
        return self._literal

    def _find_prefix(self) -> list[int]:
        """The ids the post-processor puts before a text (Llama's BOS), without an end token after it."""
        ids: list[int] = self._backend.encode("", add_special_tokens=True).ids
        is_bos_only = ids[:1] == [self.bos_token_id]
        return ids[:1] if is_bos_only else []


def check_fits(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Raise unless every id of the tokenizer has a row in a model's embedding of `vocab_size` rows."""
    if tokenizer.vocab_size > vocab_size:
        raise UnsupportedModelError(
            f"the tokenizer does not fit the model: its ids go up to {tokenizer.vocab_size - 1}, "
            f"the embedding has {vocab_size} rows",
            remedy="use the tokenizer the model was trained with, or train the model for this one",
        )


def _token_text(value: Any) -> str | None:
    """A special token of a config: a string, or a dictionary with its `content`."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}", remedy="fetch or save it again") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds {type(value).__name__}, allowed: a JSON object")
    return value


def _read_template(folder: Path, from_config: Any) -> ChatTemplate | None:
    """The chat template: its own file first, then the config's entry (a string, or named ones)."""
    path = folder / TEMPLATE_FILE
    if path.is_file():
        try:
            return ChatTemplate(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not UTF-8: {error}", remedy="fetch or save it again") from None
    if isinstance(from_config, list):
        entries = [entry for entry in from_config if isinstance(entry, Mapping)]
        from_config = next((e.get("template") for e in entries if e.get("name") == "default"), None)
    return ChatTemplate(from_config) if isinstance(from_config, str) else None


def _nothing_to_load(folder: Path) -> NotFoundError | UnsupportedModelError:
    if (folder / "tokenizer.model").is_file() or (folder / "vocab.json").is_file():
        return UnsupportedModelError(
            f"{folder} holds a tokenizer, but no {TOKENIZER_FILE}",
            remedy="convert it: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        )
    return NotFoundError(f"no {TOKENIZER_FILE} in {folder}", remedy="check the folder")
