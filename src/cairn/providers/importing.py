"""Checkpoints from elsewhere as artifacts: a Hugging Face folder, a GGUF file, or a repository of the Hub.

Only weights in safetensors and plain text files are taken; pickles can run code and are refused. What
cannot be served is refused before anything is stored: an unknown family, a file cut short, a tokenizer or
end tokens that do not fit. Only `pull_checkpoint` touches the network.
"""

import re
import shutil
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from cairn.core.errors import CairnError, InvalidRequestError, NotFoundError, StorageError, UnavailableError
from cairn.core.file_writing import write_json
from cairn.data import Tokenizer
from cairn.data.gguf_tokenizer import end_token_ids, tokenizer_from_gguf
from cairn.models import DecoderConfig, read_generation_defaults
from cairn.models.adapters import CONFIG_NAME, WEIGHTS_NAME, is_adapter, read_adapter, read_options
from cairn.models.encoder_reader import is_encoder
from cairn.models.generation import read_json
from cairn.models.gguf import is_gguf, open_gguf
from cairn.models.gguf_import import convert_gguf
from cairn.models.mapped_weights import check_weights
from cairn.providers.encoder_loading import check_encoder, modules_of
from cairn.providers.loading import ADAPTER, check_parity
from cairn.registry import Artifact, Registry

TAKEN = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model", "*.md")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def is_repository(source: str) -> bool:
    """Whether a text reads like ORG/NAME."""
    return _REPOSITORY.fullmatch(source) is not None


def import_checkpoint(
    registry: Registry, folder: Path, *, name: str = "", origin: str = "", base: str = ""
) -> Artifact:
    """Store a checkpoint folder or GGUF file as a model and point `name` (default: its own) to it.

    A folder in PEFT's layout is stored as an adapter of `base`.
    """
    if is_adapter(folder):
        return import_adapter(registry, folder, name=name, base=base)
    if base:
        raise InvalidRequestError(
            f"{folder} holds no adapter, so it has no base", remedy="leave the base out", param="base"
        )
    if is_gguf(folder):
        return import_gguf(registry, folder, name=name)
    if not folder.is_dir():
        raise NotFoundError(
            f"no such folder: {folder}", remedy="give the folder that holds config.json, or a GGUF file"
        )
    name = name or _name_of(folder.resolve().name)
    metadata = check_checkpoint(folder, name=name) | {"origin": origin or folder.resolve().name}
    with registry.create("model", metadata=metadata) as writer:
        for part in (folder, *modules_of(folder)):
            target = writer.folder / part.relative_to(folder)
            target.mkdir(exist_ok=True)
            for path in (found for pattern in TAKEN for found in sorted(part.glob(pattern))):
                # Through symbolic links: the Hub's cache is made of them.
                shutil.copyfile(path, target / path.name)
        if (writer.folder / "README.md").is_file():
            (writer.folder / "README.md").rename(writer.folder / "card.md")
    registry.set_alias(name, writer.artifact.digest)
    return writer.artifact


def import_adapter(registry: Registry, folder: Path, *, name: str = "", base: str = "") -> Artifact:
    """Store a LoRA in PEFT's layout as an adapter of the model `base` (default: the one its config names)."""
    options = read_options(folder)
    parent = _base_of(registry, base or options.base.rstrip("/").rpartition("/")[2])
    config = DecoderConfig.from_hf(read_json(parent.folder / "config.json"))
    weights = read_adapter(folder, config)
    metadata = {
        "rank": options.rank,
        "num_params": sum(part.a.size + part.b.size for parts in weights.low_rank.values() for part in parts),
        "origin": folder.resolve().name,
    }
    with registry.create(ADAPTER, parents=[parent.digest], metadata=metadata) as writer:
        for file in (CONFIG_NAME, WEIGHTS_NAME):
            shutil.copyfile(folder / file, writer.folder / file)
        if (folder / "README.md").is_file():
            shutil.copyfile(folder / "README.md", writer.folder / "card.md")
    registry.set_alias(name or _name_of(folder.resolve().name), writer.artifact.digest)
    return writer.artifact


def _base_of(registry: Registry, base: str) -> Artifact:
    try:
        parent = registry.get(base)
    except (NotFoundError, InvalidRequestError):
        raise NotFoundError(
            f"the adapter's base {base!r} is not here",
            remedy="import its base first, and name it with --base",
        ) from None
    if parent.kind != "model":
        raise InvalidRequestError(
            f"{base!r} is a {parent.kind}, an adapter's base is a model", remedy="name a model with --base"
        )
    return parent


def import_gguf(registry: Registry, path: Path, *, name: str = "") -> Artifact:
    """Store a GGUF file as a model in the Hugging Face layout, its weights as floats."""
    with tempfile.TemporaryDirectory(dir=registry.settings.home, prefix="gguf-") as made:
        folder = Path(made)
        file = open_gguf(path)
        tokenizer = tokenizer_from_gguf(file.metadata)
        config = convert_gguf(file, folder)
        tokenizer.save(folder)
        ends = end_token_ids(file.metadata)
        special = {"bos_token_id": config.bos_token_id, "pad_token_id": config.pad_token_id}
        given = {key: value for key, value in special.items() if value is not None}
        write_json(folder / "generation_config.json", {"eos_token_id": ends, **given})
        return import_checkpoint(registry, folder, name=name or _name_of(path.stem), origin=path.name)


def check_checkpoint(folder: Path, *, name: str) -> dict[str, Any]:
    """What a checkpoint is, for the catalogue; an error when it cannot be served."""
    if not (folder / "config.json").is_file():
        raise NotFoundError(f"{folder} holds no config.json", remedy="give the folder of a checkpoint")
    if is_encoder(read_json(folder / "config.json")):
        return check_encoder(folder)
    config = check_weights(folder)
    check_parity(
        Tokenizer.load(folder), read_generation_defaults(folder), vocab_size=config.vocab_size, name=name
    )
    return {
        "family": config.family,
        "num_params": config.num_params,
        "max_position": config.max_position,
        "vocab_size": config.vocab_size,
    }


def pull_checkpoint(registry: Registry, repository: str, *, name: str = "", revision: str = "") -> Artifact:
    """Fetch a checkpoint from the Hugging Face Hub and import it."""
    hub = import_module("huggingface_hub")
    errors = import_module("huggingface_hub.errors")
    with tempfile.TemporaryDirectory(dir=registry.settings.home, prefix="pull-") as folder:
        try:
            hub.snapshot_download(
                repository, revision=revision or None, local_dir=folder, allow_patterns=list(TAKEN)
            )
        except errors.RepositoryNotFoundError:
            raise NotFoundError(
                f"no repository {repository!r} on the Hub, or none you may read",
                remedy="check the name; for a gated one set HF_TOKEN",
            ) from None
        except Exception as error:
            raise _unreachable(repository, error) from error
        return import_checkpoint(
            registry, Path(folder), name=name or _name_of(repository.split("/")[1]), origin=repository
        )


def _unreachable(repository: str, error: Exception) -> CairnError:
    if isinstance(error, OSError) and error.errno == 28:
        return StorageError(f"no space for {repository}", remedy="free disk space, then pull again")
    return UnavailableError(
        f"cannot fetch {repository}: {type(error).__name__}: {error}".splitlines()[0],
        remedy="check the network; or copy the checkpoint here and run: cairn import PATH",
    )


def _name_of(text: str) -> str:
    """A name that may be an alias."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._").lower() or "model"
