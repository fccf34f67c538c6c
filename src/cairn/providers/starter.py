"""The models that ship with Cairn, so that a fresh checkout answers without a network.

`src/cairn/starter/<name>/` is an artifact as it lies in a store: files under `manifest.json`. Adopting one
keeps its digest, and its parents (what it was made from) stay named without being here.
"""

from importlib.resources import files
from pathlib import Path

from cairn.core.digests import digest_bytes
from cairn.core.errors import IntegrityError
from cairn.providers.packaged_encoder import packaged_folder
from cairn.registry import Artifact, Registry
from cairn.registry.manifest import MANIFEST_NAME, parse_manifest
from cairn.registry.store import copy_folder

STARTER_NAME = "starter"
HEADS = ("reader", "reranker")
"""Heads on the packaged encoder, by the names they are used by."""


def starter_folder(name: str = "text") -> Path:
    """Where a starter lies; it need not be there."""
    return Path(str(files("cairn"))) / "starter" / name


def adopt_starter(registry: Registry, folder: Path | None = None) -> Artifact | None:
    """Take the text model in and name it, unless one that writes text has a name already.

    Who indexed documents first has an encoder, which does not write.
    """
    models = {
        each.digest for each in registry.artifacts("model") if each.metadata.get("task", "text") == "text"
    }
    if any(alias.digest in models for alias in registry.aliases()):
        return None
    return _adopt(registry, folder or starter_folder(), STARTER_NAME)


def adopt_heads(registry: Registry) -> list[Artifact]:
    """Take the heads in under their names, where the encoder they are for is installed."""
    if packaged_folder() is None:
        return []
    names = {alias.name for alias in registry.aliases()}
    adopted = [_adopt(registry, starter_folder(name), name) for name in HEADS if name not in names]
    return [each for each in adopted if each is not None]


def _adopt(registry: Registry, folder: Path, name: str) -> Artifact | None:
    if not (folder / MANIFEST_NAME).is_file():
        return None
    data = (folder / MANIFEST_NAME).read_bytes()
    manifest = parse_manifest(data, digest_bytes(data))
    if not registry.store.has(manifest.digest):
        with registry.store.stage() as staged:
            copy_folder(folder, staged, link=False)
            (staged / MANIFEST_NAME).unlink(missing_ok=True)
            if registry.store.seal(staged) != manifest.files:
                raise IntegrityError(f"the starter in {folder} is damaged", remedy="install Cairn again")
            registry.store.land(staged, manifest)
    artifact = registry.adopt(manifest.digest)
    registry.set_alias(name, artifact.digest)
    return artifact
