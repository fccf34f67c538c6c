"""Put a finished model into the package: `python -m cairn.lifecycle.starter NAME [REF]`.

The artifact becomes a plain folder, `src/cairn/starter/<name>/` (manifest.json, weights, tokenizer,
card), which a fresh registry takes in without a network. Refused when it is larger than the
16 MB a starter may have.
"""

import shutil
import sys
from pathlib import Path

from cairn.core import CairnError, ConfigError, NotFoundError
from cairn.registry import Artifact, Registry

STARTERS = Path(__file__).resolve().parent.parent / "starter"
MAX_BYTES = 16_000_000
_MODELS = {"text": "assistant", "reader": "reader", "reranker": "reranker"}


def export_starter(registry: Registry, ref: str, target: Path) -> Artifact:
    """Verify an artifact and copy it as a plain folder to `target`, replacing what was there."""
    artifact = registry.get(ref)
    registry.verify(artifact.digest)
    files = ["manifest.json", *(entry.path for entry in artifact.files)]
    size = sum((artifact.folder / name).stat().st_size for name in files)
    if size > MAX_BYTES:
        raise ConfigError(
            f"{ref} has {size:,} bytes, a starter may have {MAX_BYTES:,}", remedy="build a smaller model"
        )
    staged = target.with_name(f".{target.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    for name in files:
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        # Plain files, not the store's read-only links.
        (staged / name).write_bytes((artifact.folder / name).read_bytes())
    shutil.rmtree(target, ignore_errors=True)
    staged.rename(target)
    return artifact


def main(arguments: list[str]) -> int:
    """`NAME [REF]`; the reference defaults to the name the starter recipe gives."""
    if not arguments or arguments[0] not in _MODELS:
        raise NotFoundError(
            f"no starter {' '.join(arguments) or '(none given)'!r}, allowed: {', '.join(_MODELS)}",
            remedy="python -m cairn.lifecycle.starter text",
        )
    name = arguments[0]
    ref = arguments[1] if len(arguments) > 1 else _MODELS[name]
    with Registry.open() as registry:
        artifact = export_starter(registry, ref, STARTERS / name)
    print(f"{STARTERS / name}  {artifact.digest}  {artifact.size:,} bytes")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except CairnError as error:
        sys.exit(f"error: {error}")
