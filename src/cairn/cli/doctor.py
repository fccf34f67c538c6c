"""`cairn doctor`: is everything here that Cairn needs, and what to do if not."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cairn.cli.output import JSON_OPTION, human_bytes, print_json, print_table

if TYPE_CHECKING:
    from cairn.core.config import Settings

_LOW_DISK_BYTES = 2_000_000_000
_LOW_MEMORY_BYTES = 2_000_000_000

Check = dict[str, str]


def doctor(as_json: bool = JSON_OPTION) -> None:
    """Check this machine and this installation.

    Ends with 1 when something is broken.
    """
    from cairn.core.config import Settings

    settings = Settings.from_env()
    checks = [*_software(), *_machine(settings), *_home(settings)]
    if as_json:
        print_json(checks)
    else:
        print_table(checks, ["check", "state", "found", "remedy"], empty="")
    if any(check["state"] == "broken" for check in checks):
        raise typer.Exit(1)


def _check(name: str, found: str, *, state: str = "ok", remedy: str = "") -> Check:
    return {"check": name, "state": state, "found": found, "remedy": remedy}


def _software() -> Iterator[Check]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from cairn import __version__
    from cairn.server.page import page_is_built

    yield _check("cairn", __version__)
    is_right = sys.version_info[:2] == (3, 11)
    yield _check(
        "python",
        platform.python_version(),
        state="ok" if is_right else "broken",
        remedy="" if is_right else "install Python 3.11",
    )
    yield _engine()
    try:
        yield _check("torch", version("torch"))
    except PackageNotFoundError:
        yield _check("torch", "not installed", state="missing", remedy="to train: pip install 'cairn[train]'")
    if page_is_built():
        yield _check("page", "built")
    else:
        yield _check("page", "not built", state="missing", remedy="in a checkout: make run")


def _engine() -> Check:
    """Which path computes text here, and with which instruction set."""
    from importlib.util import find_spec

    from cairn.engine.native_runner import native_kernels

    kernels = native_kernels()
    if kernels:
        return _check("engine", f"native, {kernels[0]}", state="ok" if kernels[0] != "portable" else "slow")
    remedy = "install a C++20 compiler and CMake, then install cairn again"
    if find_spec("torch") is None:
        return _check("engine", "none", state="broken", remedy=f"{remedy}, or install cairn[train]")
    return _check("engine", "torch; the native engine is not built", state="slow", remedy=remedy)


def _machine(settings: "Settings") -> Iterator[Check]:
    import shutil

    from cairn.compute.device import probe_device

    device = probe_device()
    yield _check("processor", f"{device.processor}, {device.num_cores} cores")
    yield _check("features", ", ".join(device.features) or "none known")
    if not device.has_bf16:
        yield _check(
            "bfloat16",
            "not in hardware",
            state="slow",
            remedy="keep dtype float32 in recipes on this machine",
        )
    for gpu in device.gpus:
        yield _check("gpu", f"{gpu.name}, {human_bytes(gpu.memory_bytes)}")
    is_low = device.memory_bytes < _LOW_MEMORY_BYTES
    yield _check(
        "memory",
        human_bytes(device.memory_bytes),
        state="low" if is_low else "ok",
        remedy="use a smaller model" if is_low else "",
    )
    free = shutil.disk_usage(_existing(settings.home)).free
    is_low = free < _LOW_DISK_BYTES
    yield _check(
        "disk",
        f"{human_bytes(free)} free",
        state="low" if is_low else "ok",
        remedy="cairn artifact gc, or point CAIRN_HOME elsewhere" if is_low else "",
    )


def _existing(path: Path) -> Path:
    """A folder, or the one above it that is there already."""
    return next(each for each in (path, *path.parents) if each.exists())


def _home_folder(home: Path) -> Check:
    """Whether the home, or where it would be made, can be written to: tried, as permissions do not tell."""
    import tempfile

    try:
        with tempfile.TemporaryFile(dir=_existing(home)):
            return _check("home", str(home))
    except OSError as error:
        return _check(
            "home",
            f"{home}: {error.strerror}",
            state="broken",
            remedy="point CAIRN_HOME at a folder you can write to",
        )


def _routes(settings: "Settings") -> Check:
    from cairn.core.errors import CairnError
    from cairn.server.routing.config import FILE_NAME, load_routes

    try:
        routes = load_routes(settings.home / FILE_NAME).routes
    except CairnError as error:
        return _check("routes", error.message, state="broken", remedy=error.remedy)
    return _check("routes", ", ".join(routes) or "none")


def _home(settings: "Settings") -> Iterator[Check]:
    from cairn.core.errors import CairnError
    from cairn.registry import Registry
    from cairn.registry.database import head_revision
    from cairn.server.config import ServerConfig
    from cairn.server.models import NO_MODEL_REMEDY, ModelPool

    yield _home_folder(settings.home)
    try:
        with Registry.open(settings) as registry:
            kind = "SQLite" if registry.database.is_sqlite else "Postgres"
            yield _check("database", f"{kind}, revision {head_revision()}")
            names = [model.name for model in ModelPool(registry, ServerConfig()).served()]
    except CairnError as error:
        yield _check("database", error.message, state="broken", remedy=error.remedy)
        return
    yield _routes(settings)
    if names:
        yield _check("models", ", ".join(names))
    else:
        yield _check("models", "none", state="missing", remedy=NO_MODEL_REMEDY)
