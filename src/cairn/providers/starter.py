"""The model that ships with Cairn, so that a fresh checkout answers without a network.

`src/cairn/starter/text/` is an artifact as it lies in a store: files under `manifest.json`. Adopting it
keeps its digest, and its parents (the corpus it was made from) stay named without being here.
"""

from importlib.resources import files
from pathlib import Path

from cairn.core.digests import digest_bytes
from cairn.core.errors import IntegrityError
from cairn.registry import Artifact, Registry
from cairn.registry.manifest import MANIFEST_NAME, parse_manifest
from cairn.registry.store import copy_folder

STARTER_NAME = "starter"


def starter_folder() -> Path:
    """Where the starter text model lies; it need not be there."""
    return Path(str(files("cairn"))) / "starter" / "text"


def adopt_starter(registry: Registry, folder: Path | None = None) -> Artifact | None:
    """Take the starter in and name it, unless a model has a name already; None if nothing is to be done."""
    folder = folder or starter_folder()
    models = {artifact.digest for artifact in registry.artifacts("model")}
    if not (folder / MANIFEST_NAME).is_file() or any(alias.digest in models for alias in registry.aliases()):
        return None
    data = (folder / MANIFEST_NAME).read_bytes()
    manifest = parse_manifest(data, digest_bytes(data))
    if not registry.store.has(manifest.digest):
        with registry.store.stage() as staged:
            copy_folder(folder, staged, link=False)
            (staged / MANIFEST_NAME).unlink(missing_ok=True)
            if registry.store.seal(staged) != manifest.files:
                raise IntegrityError(
                    f"the starter model in {folder} is damaged", remedy="install Cairn again"
                )
            registry.store.land(staged, manifest)
    artifact = registry.adopt(manifest.digest)
    registry.set_alias(STARTER_NAME, artifact.digest)
    return artifact
