"""Where texts and instructions come from: named data sets and files beside the recipe.

Each source is stored as an artifact of its own, so that lineage begins at the raw data, and is
described by what a card must say of it: licence, origin, digest.
"""

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cairn.core import ConfigError, NotFoundError, digest_file, digest_json
from cairn.data import LocalDataset, find_dataset, get_dataset
from cairn.lifecycle.head_recipe import QuestionSource
from cairn.lifecycle.recipe import InstructionSource, TextSource
from cairn.lifecycle.stage import StageContext
from cairn.registry import Artifact

Source = TextSource | InstructionSource | QuestionSource


@dataclass(frozen=True, slots=True)
class Origin:
    """What reports and cards say of a source."""

    name: str
    licence: str
    source: str
    digest: str

    @property
    def values(self) -> dict[str, str]:
        return {"name": self.name, "licence": self.licence, "source": self.source, "digest": self.digest}


def source_config(source: Source, recipe_path: Path) -> dict[str, Any]:
    """What of a source decides the output: its settings and the digest of its content."""
    return {**source.model_dump(mode="json"), "content": origin(source, recipe_path).digest}


def origin(source: Source, recipe_path: Path) -> Origin:
    """A source's licence, address and content digest; nothing is fetched."""
    if isinstance(source, QuestionSource) or source.dataset:
        spec = find_dataset(source.dataset)
        if spec.is_evaluation_only:
            raise ConfigError(
                f"data set {source.dataset!r} is for evaluation only ({spec.weights})",
                remedy="name it under data.decontaminate, or choose another (`cairn data ls`)",
            )
        return Origin(source.dataset, spec.licence, spec.source, spec.content)
    files = {path.name: digest_file(path) for path in source_files(source, recipe_path)}
    return Origin(
        source.path, source.licence or "unstated", source.attribution or "unstated", digest_json(files)
    )


def source_files(source: TextSource | InstructionSource, recipe_path: Path) -> list[Path]:
    """The files of a `path` source, sorted."""
    pattern = str(recipe_path.parent / source.path)
    files = sorted(Path(name) for name in glob.glob(pattern, recursive=True) if Path(name).is_file())
    if not files:
        raise NotFoundError(
            f"no file matches {pattern}", remedy="path is relative to the recipe; globs are allowed"
        )
    return files


def store_source(source: Source, context: StageContext[Any]) -> tuple[Artifact, Origin]:
    """The raw source as an artifact; a named data set is brought here first."""
    said = origin(source, context.recipe_path)
    if isinstance(source, QuestionSource) or source.dataset:
        local = get_dataset(source.dataset, context.settings, progress=context.progress)
        artifact = context.registry.add_folder(
            local.folder, "dataset", metadata=said.values, run_id=context.run_id
        )
        return artifact, said
    with context.registry.create("dataset", metadata=said.values, run_id=context.run_id) as writer:
        for path in source_files(source, context.recipe_path):
            (writer.folder / path.name).write_bytes(path.read_bytes())
    return writer.artifact, said


def evaluation_sets(context: StageContext) -> list[LocalDataset]:
    """The evaluation sets whose texts must not occur in training; brought here first."""
    names = context.recipe.data.decontaminate
    return [get_dataset(name, context.settings, progress=context.progress) for name in names]
