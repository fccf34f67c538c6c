"""A folder with a small random encoder, its WordPiece tokenizer and, for an embedder, its modules."""

import json
import shutil
from pathlib import Path

from tests.data.tiny_wordpiece import save_wordpiece
from tests.models.tiny_encoders import as_sentence_transformer, tiny_encoder


def embedder_folder(target: Path, family: str = "bert") -> Path:
    """An embedder in the layout of sentence-transformers: mean, length one."""
    modules = [("Pooling", {"pooling_mode": "mean", "embedding_dimension": 48}), ("Normalize", {})]
    as_sentence_transformer(tiny_encoder(family)[1], target, modules)
    save_wordpiece(target)
    return target


def classifier_folder(target: Path, *labels: str) -> Path:
    """A classifier of these labels; one label: a cross-encoder."""
    names = dict(enumerate(labels))
    _, folder = tiny_encoder("bert", "ForSequenceClassification", num_labels=len(labels))
    shutil.copytree(folder, target)
    config = target / "config.json"
    values = json.loads(config.read_text()) | {"id2label": names}
    config.write_text(json.dumps(values))
    save_wordpiece(target)
    return target
