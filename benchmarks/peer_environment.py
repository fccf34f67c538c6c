"""Peers that cannot live beside Cairn: an environment of their own, and what is in it."""

import json
import re
import subprocess
import venv
from collections.abc import Sequence
from pathlib import Path


def peer_python(folder: Path, packages: Sequence[str]) -> str:
    """The interpreter of an environment with these packages, made the first time."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return str(python)


def peer_versions(python: str, packages: Sequence[str]) -> dict[str, str]:
    """What an interpreter has of these packages."""
    names = [re.split(r"[\[=]", name)[0] for name in packages]
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names}}}))"
    versions: dict[str, str] = json.loads(subprocess.check_output([python, "-c", code], text=True))
    return versions
