"""From a checkpoint folder to an `EncoderConfig`: config.json and the modules of sentence-transformers.

Defaults are those of transformers' config classes, but sizes are never guessed. A folder without modules.json
and without a classifier embeds by the mean of its tokens, as sentence-transformers loads it.
"""

import difflib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cairn.core import IntegrityError, NotFoundError, UnsupportedModelError
from cairn.models.encoder_config import EncoderConfig, EncoderHead
from cairn.models.generation import read_json
from cairn.models.hf_values import HfValues, look_up

Fields = dict[str, Any]
_MOST_LAYERS = 1000
_POOLINGS = {"cls": "first", "mean": "mean", "max": "max"}
_LEGACY_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_FEATURES = ("Model", "ForMaskedLM", "ForPreTraining")
_CLASSIFIER, _TAGGER = "ForSequenceClassification", "ForTokenClassification"


def is_encoder(values: Mapping[str, Any]) -> bool:
    """Whether the content of a config.json is that of an encoder."""
    return values.get("model_type") in FAMILIES


def read_encoder_config(folder: Path) -> EncoderConfig:
    """The config of a checkpoint folder; `UnsupportedModelError` for what Cairn does not run."""
    if not (folder / "config.json").is_file():
        raise NotFoundError(f"{folder} holds no config.json", remedy="give the folder of a checkpoint")
    values = read_json(folder / "config.json")
    model_type = values.get("model_type")
    if not is_encoder(values):
        near = difflib.get_close_matches(str(model_type), FAMILIES, n=3)
        raise UnsupportedModelError(
            f"encoders of the family {model_type!r} are not supported"
            + (f" (near: {', '.join(near)})" if near else ""),
            remedy=f"supported families: {', '.join(sorted(FAMILIES))}",
        )
    hf = HfValues(values)
    for key in ("quantization_config", "is_decoder", "add_cross_attention"):
        hf.refuse(key, False)
    hf.refuse("position_embedding_type", "absolute")
    fields = FAMILIES[str(model_type)](hf)
    longest = fields["num_positions"] - fields.get("position_offset", 0)
    given = _max_tokens(folder)
    return EncoderConfig(
        family=str(model_type),
        vocab_size=hf.integer("vocab_size", least=1),
        head=_head(folder, hf, fields["hidden_size"]),
        max_tokens=min(given or longest, longest),
        prompt=_prompt(folder),
        **fields,
    )


def _read_bert(hf: HfValues) -> Fields:
    return {
        "hidden_size": hf.integer("hidden_size", least=1),
        "num_layers": hf.integer("num_hidden_layers", least=1, most=_MOST_LAYERS),
        "num_heads": hf.integer("num_attention_heads", least=1),
        "intermediate_size": hf.integer("intermediate_size", least=1),
        "num_positions": hf.integer("max_position_embeddings", least=1),
        "num_types": hf.integer("type_vocab_size", 2),
        "norm_eps": hf.number("layer_norm_eps", 1e-12),
        "activation": hf.activation("hidden_act", "gelu"),
    }


def _read_roberta(hf: HfValues) -> Fields:
    """Positions are counted from the padding token's id on, which is a row of the table itself."""
    return {**_read_bert(hf), "position_offset": hf.integer("pad_token_id", 1) + 1}


def _read_distilbert(hf: HfValues) -> Fields:
    return {
        "hidden_size": hf.integer("dim", least=1),
        "num_layers": hf.integer("n_layers", least=1, most=_MOST_LAYERS),
        "num_heads": hf.integer("n_heads", least=1),
        "intermediate_size": hf.integer("hidden_dim", least=1),
        "num_positions": hf.integer("max_position_embeddings", 512, least=1),
        "num_types": 0,
        "activation": hf.activation("activation", "gelu"),
    }


FAMILIES: dict[str, Callable[[HfValues], Fields]] = {
    "bert": _read_bert,
    "camembert": _read_roberta,
    "distilbert": _read_distilbert,
    "roberta": _read_roberta,
    "xlm-roberta": _read_roberta,
}


def _head(folder: Path, hf: HfValues, hidden: int) -> EncoderHead:
    """What the class in `architectures` adds to the network, or what sentence-transformers does."""
    names = hf.get("architectures") or ["Model"]
    name = str(names[0])
    if name.endswith(_CLASSIFIER):
        is_distilled = hf.get("model_type") == "distilbert"
        return EncoderHead(
            task="classification",
            pooling="first",
            dense=hidden,
            activation="relu" if is_distilled else "tanh",
            labels=_labels(hf),
            scores=_scores(hf),
        )
    if name.endswith(_TAGGER):
        return EncoderHead(
            task="token_classification", pooling="tokens", labels=_labels(hf), scores="softmax"
        )
    if not name.endswith(_FEATURES):
        raise UnsupportedModelError(
            f"config.json names the class {name!r}, which Cairn does not run",
            remedy=f"classes that end in {', '.join((*_FEATURES, _CLASSIFIER, _TAGGER))} are run",
        )
    return (
        _sentence_head(folder)
        if (folder / "modules.json").is_file()
        else EncoderHead(task="embedding", pooling="mean")
    )


def _last(name: Any) -> str:
    """The last part of a dotted name of a Python class."""
    return str(name).rpartition(".")[2]


def _labels(hf: HfValues) -> tuple[str, ...]:
    names = hf.mapping("id2label")
    count = len(names) or hf.integer("num_labels", 2, least=1)
    return tuple(str(names.get(str(index), f"LABEL_{index}")) for index in range(count))


def _scores(hf: HfValues) -> Any:
    """Cross-encoders say it themselves; one label alone is a yes or no, as sentence-transformers takes it."""
    given = hf.mapping("sentence_transformers").get("activation_fn") or hf.get(
        "sbert_ce_default_activation_function"
    )
    if given is not None:
        return look_up("activation_fn", _last(given), {"Identity": "none", "Sigmoid": "sigmoid"})
    problem = hf.get("problem_type")
    if problem == "regression":
        return "none"
    is_independent = problem == "multi_label_classification" or len(_labels(hf)) == 1
    return "sigmoid" if is_independent else "softmax"


def _sentence_head(folder: Path) -> EncoderHead:
    """Transformer, Pooling, then perhaps Dense and Normalize, in this order."""
    modules = _list(folder / "modules.json")
    kinds = [_last(module.get("type", "")) for module in modules]
    allowed = [
        ("Transformer", "Pooling", *rest) for rest in ((), ("Normalize",), ("Dense",), ("Dense", "Normalize"))
    ]
    if tuple(kinds) not in allowed:
        raise UnsupportedModelError(
            f"modules.json lists {', '.join(kinds)}, allowed: Transformer, Pooling, perhaps Dense, Normalize",
            remedy="choose a sentence-transformers model of these modules",
        )
    fields: Fields = {"pooling": _pooling(HfValues(read_json(_inner(folder, modules[1]) / "config.json")))}
    if "Dense" in kinds:
        path = _inner(folder, modules[2])
        dense = HfValues(read_json(path / "config.json"))
        activations = {"Tanh": "tanh", "ReLU": "relu", "Identity": "none"}
        name = _last(dense.get("activation_function") or "Tanh")
        fields |= {
            "dense": dense.integer("out_features", least=1),
            "dense_bias": dense.flag("bias", True),
            "dense_folder": path.name,
            "activation": look_up("activation_function", name, activations),
        }
    return EncoderHead(task="embedding", normalise=kinds[-1] == "Normalize", **fields)


def _pooling(hf: HfValues) -> Any:
    hf.refuse("include_prompt", True)
    legacy = [name for key, name in _LEGACY_POOLINGS.items() if hf.get(key)]
    given = hf.get("pooling_mode") or (legacy[0] if len(legacy) == 1 else legacy or "mean")
    return look_up("pooling_mode", given if isinstance(given, str) else " and ".join(given), _POOLINGS)


def _inner(folder: Path, module: Mapping[str, Any]) -> Path:
    """The folder of a module; nothing outside the checkpoint."""
    name = module.get("path")
    if not isinstance(name, str) or not name or Path(name).name != name or not (folder / name).is_dir():
        raise NotFoundError(
            f"modules.json names the folder {name!r}, which is not in {folder}", remedy="fetch it"
        )
    return folder / name


def _list(path: Path) -> list[dict[str, Any]]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path} is not JSON: {error}", remedy="fetch the file again") from None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise IntegrityError(f"{path} holds no list of objects", remedy="fetch the file again")
    return value


def _max_tokens(folder: Path) -> int | None:
    """The longest text its makers want: as sentence-transformers or the tokenizer says."""
    sentence = HfValues(read_json(folder / "sentence_bert_config.json"))
    sentence.refuse("do_lower_case", False)
    tokenizer = read_json(folder / "tokenizer_config.json").get("model_max_length")
    given = sentence.integer_or_none("max_seq_length")
    # transformers writes a number beyond all sizes where a tokenizer has no limit.
    return given or (int(tokenizer) if isinstance(tokenizer, int | float) and 0 < tokenizer < 1e9 else None)


def _prompt(folder: Path) -> str:
    values = HfValues(read_json(folder / "config_sentence_transformers.json"))
    name = values.get("default_prompt_name")
    return str(values.mapping("prompts").get(name, "")) if name is not None else ""
