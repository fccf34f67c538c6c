"""The house rules that a program can hold: sizes, names, described settings, justified dependencies."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import cairn
from cairn.core import Config

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES = 500, 80


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_files_and_functions_stay_small() -> None:
    too_long = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if len(path.read_text().splitlines()) > MAX_FILE_LINES and "_pb2" not in path.stem  # generated
    ]
    for path in SOURCES:
        for node in functions(path):
            assert node.end_lineno is not None
            if node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES:
                too_long.append(f"{path.relative_to(ROOT)}:{node.name}")
    assert not too_long


def test_every_module_says_what_it_is_for() -> None:
    silent = [str(path) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not silent


def test_there_are_no_junk_drawers() -> None:
    assert not [path for path in SOURCES if path.stem in ("utils", "helpers", "misc", "common")]


def configs(cls: type[Config] = Config) -> Iterator[type[Config]]:
    for child in cls.__subclasses__():
        if child.__module__.startswith("cairn."):
            yield child
        yield from configs(child)


def every_config() -> set[type[Config]]:
    """All of them, also those of modules that nothing has imported yet."""
    for module in pkgutil.walk_packages(cairn.__path__, "cairn."):
        # Kernels need Triton, which torch's CPU builds come without.
        is_kernel = module.name.rpartition(".")[2].startswith("triton_")
        # Stores import their clients, which are extras.
        is_client = module.name.startswith("cairn.retrieval.stores.")
        is_apart = ".migrations." in module.name or module.name.endswith("__main__")
        if not (is_kernel or is_client or is_apart):
            importlib.import_module(module.name)
    return set(configs())


def test_every_setting_is_described() -> None:
    bare = [
        f"{cls.__name__}.{name}"
        for cls in every_config()
        for name, field in cls.model_fields.items()
        if not field.description
    ]
    assert not bare


def test_every_dependency_is_pinned_and_justified() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    names = {re.split(r"[<>=\[ ]", requirement)[0].lower() for requirement in wanted} - {"cairn"}
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in constraints}
    assert names <= pinned
    justified = (ROOT / "docs" / "dependencies.md").read_text().lower()
    assert not [name for name in names if name not in justified and not name.startswith("types-")]


@pytest.mark.parametrize("heavy", ["torch", "matplotlib", "pyarrow", "fastapi", "sqlalchemy", "transformers"])
def test_the_prompt_imports_nothing_heavy(heavy: str) -> None:
    code = f"import sys, cairn.cli; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "room", ["registry", "data", "providers", "server", "compute", "engine", "lifecycle"]
)
def test_serving_and_storing_do_not_import_torch(room: str) -> None:
    code = f"import sys, cairn.{room}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
