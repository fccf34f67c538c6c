"""Every command and every Python example in README and docs runs, page by page, in order.

A page's `bash` and `python` blocks share one folder and one CAIRN_HOME, in which the tutorial
recipe was built once for the whole session. A comment on the line before a block changes that:
`<!-- server -->` runs it with a live server at the documented address,
`<!-- continued -->` runs it after what the Python block before it holds, and
`<!-- tested by PATH -->` leaves it to the named test.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.conftest import LiveServer

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- (?P<note>[^>]*?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)
LANGUAGES = {"bash", "sh", "shell", "console", "python"}
DOCUMENTED_ADDRESS = "http://127.0.0.1:8642"


@dataclass(frozen=True, slots=True)
class Block:
    language: str
    code: str
    note: str
    line: int


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in BLOCK.finditer(text):
        if match["language"] in LANGUAGES:
            code = match["code"].replace("\n" + match["indent"], "\n").removeprefix(match["indent"])
            line = text.count("\n", 0, match.start("code")) + 1
            yield Block(match["language"], code, match["note"] or "", line)


def run(block: Block, folder: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    done = subprocess.run(
        [*command, block.code], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    said = f"line {block.line}:\n{block.code}\n{done.stdout}\n{done.stderr}"
    assert done.returncode == 0, said


def with_commands(page: Path) -> bool:
    return any(not block.note.startswith("tested by ") for block in blocks_of(page))


@pytest.mark.slow
@pytest.mark.xdist_group("docs")
@pytest.mark.parametrize("page", [page for page in PAGES if with_commands(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run(
    page: Path, docs_home: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    environment = os.environ | {
        "CAIRN_HOME": str(docs_home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "2",
    }
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    before = ""
    for block in blocks_of(page):
        if block.note.startswith("tested by "):
            continue
        if block.note == "server":
            server: LiveServer = request.getfixturevalue("docs_server")
            environment |= {"CAIRN_API_KEY": server.key, "OPENAI_API_KEY": server.key}
            block = Block(
                block.language, block.code.replace(DOCUMENTED_ADDRESS, server.url), "server", block.line
            )
        if block.note == "continued":
            block = Block(block.language, f"{before}\n{block.code}", "continued", block.line)
        if block.language == "python":
            before = block.code
        run(block, tmp_path, environment)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_notes_are_known_and_name_tests_that_exist(page: Path) -> None:
    for block in blocks_of(page):
        tested_by = block.note.removeprefix("tested by ")
        is_tested = tested_by != block.note and (ROOT / tested_by).is_file()
        known = is_tested or block.note in ("", "server", "continued")
        assert known, f"{page.name}:{block.line}: {block.note!r}"


def test_blocks_are_found_with_their_notes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "a\n```bash\nls\n```\n<!-- server -->\n```python\nx = 1\n```\n"
        "```json\n{}\n```\n- b\n\n  ```sh\n  pwd\n  ```\n"
    )
    assert [(block.language, block.code, block.note) for block in blocks_of(page)] == [
        ("bash", "ls\n", ""),
        ("python", "x = 1\n", "server"),
        ("sh", "pwd\n", ""),
    ]
