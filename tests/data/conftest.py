"""Small tokenizers of every kind that is supported, made here; and the mirror, where there is one."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from cairn.core import Settings
from cairn.data import Tokenizer

ROOT = Path(__file__).resolve().parents[2]

CORPUS = [
    "The cat sat on the mat, and the dog sat by the door. It's 1234 o'clock!",
    "'I don't know,' said the cat. “Nor do I,” said the dog — and they laughed.",
    "naïve café Ærøskøbing 日本語のテキスト Здравствуй мир 🙂 12.5%",
    "def f(x):\n    return x + 1\n\n\nprint(f(2))\n",
] * 20


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """Cairn's own: byte-level BPE with its chat template."""
    return Tokenizer.train(CORPUS, vocab_size=700)


def gpt2_like() -> tokenizers.Tokenizer:
    """Byte-level BPE in GPT-2's way."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    return backend


def llama3_like() -> tokenizers.Tokenizer:
    """Byte-level BPE with Llama 3's pattern, header tokens, whole-word lookup and BOS in front."""
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    backend = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    names = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    bos = backend.token_to_id("<|begin_of_text|>")
    backend.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)]
    )
    return backend


def sentencepiece_like(*, prefix_space: bool) -> tokenizers.Tokenizer:
    """BPE over characters with byte fallback: Llama 2's (a space before every text) or Gemma's (none)."""
    special = ["<unk>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>"]
    backend = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    replace = normalizers.Replace(" ", "▁")
    backend.normalizer = (
        normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prefix_space else replace
    )
    strip = [decoders.Strip(" ", 1, 0)] if prefix_space else []
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=[*special, *bytes_], show_progress=False)
    backend.train_from_iterator((word for text in CORPUS for word in text.split("\n")), trainer)
    # Trained as special only to give them the first ids, as sentencepiece does; they are ordinary pieces.
    values = json.loads(backend.to_str())
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] in special]
    return tokenizers.Tokenizer.from_str(json.dumps(values))


SPECIAL = {
    "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "llama2": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "gemma": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
}


@pytest.fixture(scope="session")
def foreign_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that transformers saved, by family."""
    from transformers import PreTrainedTokenizerFast

    backends = {
        "gpt2": gpt2_like(),
        "llama3": llama3_like(),
        "llama2": sentencepiece_like(prefix_space=True),
        "gemma": sentencepiece_like(prefix_space=False),
    }
    folders = {}
    for name, backend in backends.items():
        folders[name] = tmp_path_factory.mktemp(name)
        peer: Any = PreTrainedTokenizerFast
        peer(tokenizer_object=backend, **SPECIAL[name]).save_pretrained(folders[name])
    return folders


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home of its own and no mirror."""
    return Settings(home=tmp_path / "home")


@pytest.fixture(scope="session")
def mirror_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The real data sets, or a skip."""
    given = os.environ.get("CAIRN_MIRROR")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no mirror: set CAIRN_MIRROR to a folder of data set archives")
    return Settings(home=tmp_path_factory.mktemp("mirror-home"), mirror=folder)
