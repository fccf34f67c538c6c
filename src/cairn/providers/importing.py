"""Checkpoints from elsewhere as artifacts: a Hugging Face folder, a GGUF file, or a repository of the Hub.

Only weights in safetensors and plain text files are taken; pickles can run code and are refused. What
cannot be served is refused before anything is stored: an unknown family, a file cut short, a tokenizer or
end tokens that do not fit. Only `pull_checkpoint` touches the network. Of a repository the safetensors are
taken; where it has none, or a quantisation is named, one of its GGUF files.
"""

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cairn.core.errors import InvalidRequestError, NotFoundError
from cairn.core.file_writing import write_json
from cairn.core.progress import Progress, Silent
from cairn.data import Tokenizer
from cairn.data.gguf_tokenizer import end_token_ids, tokenizer_from_gguf
from cairn.models import DecoderConfig, read_generation_defaults
from cairn.models.adapters import CONFIG_NAME, WEIGHTS_NAME, is_adapter, read_adapter, read_options
from cairn.models.encoder_reader import is_encoder
from cairn.models.generation import read_json
from cairn.models.gguf import is_gguf, open_gguf
from cairn.models.gguf_import import convert_gguf, quantisation
from cairn.models.gguf_sampling import read_sampling
from cairn.models.gguf_split import split_name
from cairn.models.mapped_weights import check_weights
from cairn.providers.encoder_loading import check_encoder, modules_of
from cairn.providers.gguf_choice import choose_gguf, gguf_choices
from cairn.providers.loading import ADAPTER, check_parity
from cairn.providers.pulling import fetched, list_repository
from cairn.providers.sizes import gigabytes
from cairn.registry import Artifact, Registry
from cairn.registry.manifest import MANIFEST_NAME

TAKEN = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model", "*.md")
_REPOSITORY = re.compile(r"(\w[\w.-]*/[\w.-]+)(?::([\w./-]+))?")
_IMPORTABLE = "a folder that holds config.json or adapter_config.json, or a GGUF file"


def is_repository(source: str) -> bool:
    """Whether a text reads like ORG/NAME or ORG/NAME:QUANTISATION."""
    return _REPOSITORY.fullmatch(source) is not None


def import_checkpoint(
    registry: Registry, folder: Path, *, name: str = "", origin: str = "", base: str = ""
) -> Artifact:
    """Store a checkpoint folder or GGUF file as a model and point `name` (default: its own) to it.

    A folder in PEFT's layout is stored as an adapter of `base`.
    """
    if not folder.exists():
        raise NotFoundError(f"there is no {folder}", remedy=f"check the path; it leads to {_IMPORTABLE}")
    if is_adapter(folder):
        return import_adapter(registry, folder, name=name, origin=origin, base=base)
    if base:
        raise InvalidRequestError(
            f"{folder} holds no adapter, so it has no base", remedy="leave the base out", param="base"
        )
    if is_gguf(folder):
        return import_gguf(registry, folder, name=name)
    if not folder.is_dir():
        raise InvalidRequestError(f"{folder} is no GGUF file and no folder", remedy=f"give {_IMPORTABLE}")
    return _store(registry, folder, name or _name_of(folder.resolve().name), origin or folder.resolve().name)


def _store(
    registry: Registry, folder: Path, name: str, origin: str, about: Mapping[str, Any] | None = None
) -> Artifact:
    """A checkpoint folder as a model under a name; `about` are more things to say of it."""
    metadata = check_checkpoint(folder, name=name) | {"origin": origin} | dict(about or {})
    with registry.create("model", metadata=metadata) as writer:
        for part in (folder, *modules_of(folder)):
            target = writer.folder / part.relative_to(folder)
            target.mkdir(exist_ok=True)
            for path in (found for pattern in TAKEN for found in sorted(part.glob(pattern))):
                if path.name != MANIFEST_NAME:
                    # Through symbolic links: the Hub's cache is made of them.
                    shutil.copyfile(path, target / path.name)
        if (writer.folder / "README.md").is_file():
            (writer.folder / "README.md").rename(writer.folder / "card.md")
    registry.set_alias(name, writer.artifact.digest)
    return writer.artifact


def import_adapter(
    registry: Registry, folder: Path, *, name: str = "", origin: str = "", base: str = ""
) -> Artifact:
    """Store a LoRA in PEFT's layout as an adapter of the model `base` (default: the one its config names)."""
    options = read_options(folder)
    parent = _base_of(registry, base or options.base.rstrip("/").rpartition("/")[2])
    config = DecoderConfig.from_hf(read_json(parent.folder / "config.json"))
    weights = read_adapter(folder, config)
    metadata = {
        "rank": options.rank,
        "num_params": sum(part.a.size + part.b.size for parts in weights.low_rank.values() for part in parts),
        "origin": origin or folder.resolve().name,
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


def import_gguf(
    registry: Registry, path: Path, *, name: str = "", origin: str = "", card: Path | None = None
) -> Artifact:
    """Store a GGUF file, or all parts of a split one, as a model in the Hugging Face layout, in floats."""
    file = open_gguf(path)
    stem = (split_name(path.name) or (path.stem,))[0]
    with tempfile.TemporaryDirectory(dir=registry.settings.home, prefix="gguf-") as made:
        folder = Path(made)
        tokenizer = tokenizer_from_gguf(file.metadata)
        sampling = read_sampling(file.metadata)
        config = convert_gguf(file, folder)
        tokenizer.save(folder)
        ends = end_token_ids(file.metadata)
        special = {"bos_token_id": config.bos_token_id, "pad_token_id": config.pad_token_id}
        given = {key: value for key, value in special.items() if value is not None}
        write_json(folder / "generation_config.json", {"eos_token_id": ends, **given, **sampling})
        if card is not None and card.is_file():
            shutil.copyfile(card, folder / "README.md")
        about = {"gguf": {"quantisation": quantisation(file), "size": file.size}}
        return _store(registry, folder, name or _name_of(stem), origin or path.name, about)


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


def pull_checkpoint(
    registry: Registry,
    source: str,
    *,
    name: str = "",
    base: str = "",
    revision: str = "",
    progress: Progress | None = None,
) -> Artifact:
    """Fetch a checkpoint, ORG/NAME or ORG/NAME:QUANTISATION, from the Hugging Face Hub and import it.

    An adapter is stored as one of the model `base`, which is looked up before anything large is fetched.
    """
    if base:
        _base_of(registry, base)
    match = _REPOSITORY.fullmatch(source)
    assert match is not None, source
    repository = list_repository(match[1], revision)
    name = name or _name_of(match[1].partition("/")[2])
    progress = progress or Silent()
    choices = gguf_choices({file.path: file.size for file in repository.files})
    if match[2] or (choices and not base and not repository.matching(("*.safetensors",))):
        choice = choose_gguf(choices, match[2] or "", match[1])
        progress.say(f"{choice.paths[0]}, {gigabytes(choice.size)}")
        files = [file for file in repository.files if file.path in (*choice.paths, "README.md")]
        with fetched(registry, repository, files, progress) as folder:
            path, origin = folder / choice.paths[0], f"{match[1]}/{choice.paths[0]}"
            return import_gguf(registry, path, name=name, origin=origin, card=folder / "README.md")
    with fetched(registry, repository, repository.matching(TAKEN), progress) as folder:
        return import_checkpoint(registry, folder, name=name, origin=match[1], base=base)


def _name_of(text: str) -> str:
    """A name that may be an alias."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._").lower() or "model"
