"""Small random encoders of every family and head, made by transformers, the independent implementation."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from tests.scratch import scratch_folder

VOCAB = 199
_SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 72}
_DISTIL = {"dim": 48, "n_layers": 2, "n_heads": 3, "hidden_dim": 72}
_BERT_LIKE = {**_SIZES, "vocab_size": VOCAB, "max_position_embeddings": 80, "type_vocab_size": 2}
_ROBERTA_LIKE = {**_BERT_LIKE, "type_vocab_size": 1, "pad_token_id": 1, "max_position_embeddings": 82}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _BERT_LIKE),
    "camembert": ("Camembert", {**_ROBERTA_LIKE, "hidden_act": "gelu_new"}),
    "distilbert": ("DistilBert", {**_DISTIL, "vocab_size": VOCAB, "max_position_embeddings": 80}),
    "roberta": ("Roberta", {**_ROBERTA_LIKE, "hidden_act": "relu"}),
    "xlm-roberta": ("XLMRoberta", _ROBERTA_LIKE),
}
FAMILIES = tuple(CONFIGS)
HEADS = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForMaskedLM")


@functools.cache
def tiny_encoder(family: str, head: str = "Model", **extra: Any) -> tuple[Any, Path]:
    """transformers' model with random weights, and a folder with its checkpoint."""
    prefix, values = CONFIGS[family]
    config = getattr(transformers, f"{prefix}Config")(**values, **extra)
    torch.manual_seed(5)
    model = getattr(transformers, prefix + head)(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Far from what is initialised: norms unlike one, biases unlike zero.
            base = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            parameter.copy_(base + 0.2 * torch.randn(parameter.shape))
    folder = scratch_folder("encoder")
    model.save_pretrained(folder)
    return model, folder


def as_sentence_transformer(
    folder: Path, target: Path, modules: Sequence[tuple[str, dict[str, Any]]]
) -> Path:
    """A copy of a checkpoint folder with modules of sentence-transformers after the network."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for index, (kind, config) in enumerate(modules, 1):
        inner = f"{index}_{kind}"
        (target / inner).mkdir()
        (target / inner / "config.json").write_text(json.dumps(config))
        kind = f"sentence_transformers.models.{kind}"
        listed.append({"idx": index, "name": str(index), "path": inner, "type": kind})
    (target / "modules.json").write_text(json.dumps(listed))
    return target
