"""Other people's clients against this server: each in a virtual environment of its own, at a version.

They are heavy (up to half a gigabyte each) and come from a package index, so `make clients` runs them, not
`make test`. The environments are kept in `CAIRN_CLIENTS`, or else in the user's cache.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cairn.core.digests import digest_bytes, short
from cairn.engine import EngineConfig
from tests.providers.scripted import ScriptedRunner
from tests.server.conftest import REPLY, Script, Serve

pytestmark = pytest.mark.clients
SCRIPTS = Path(__file__).parent / "scripts"
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'
FINAL = "Thought: I now can give a great answer\nFinal Answer: It is sunny."
CLIENTS = {
    "langchain": ("langchain-openai==1.7.3",),
    "llama_index": ("llama-index-llms-openai-like==0.8.1",),
    "litellm": ("litellm==1.106.2", "mcp==2.3.0"),
    "autogen": ("autogen-ext[openai]==0.7.5", "autogen-agentchat==0.7.5"),
    "crewai": ("crewai==1.15.30",),
}


def environment(packages: tuple[str, ...]) -> Path:
    """The interpreter of a virtual environment with these packages."""
    cache = Path(os.environ.get("CAIRN_CLIENTS") or Path.home() / ".cache" / "cairn-clients")
    folder = cache / short(digest_bytes(" ".join(packages).encode()))
    if not (folder / "whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        install = [
            str(folder / "bin" / "pip"),
            "install",
            "--quiet",
            "--disable-pip-version-check",
            *packages,
        ]
        subprocess.run(install, check=True)
        (folder / "whole").touch()
    return folder / "bin" / "python"


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_works(
    name: str, serve: Serve, script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python = environment(CLIENTS[name])
    monkeypatch.setattr(ScriptedRunner, "max_position", 16_384)  # some write long prompts of their own
    config = EngineConfig(num_blocks=4096)
    replies = {"scripted": REPLY, "caller": CALL, "finisher": FINAL}
    server = serve(*(script(reply, name=model, config=config) for model, reply in replies.items()))
    said = subprocess.run(
        [python, SCRIPTS / f"{name}_client.py"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "URL": server.url,
            "KEY": server.key,
            "REPLY": REPLY,
            "FINAL": FINAL,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert said.returncode == 0, f"{said.stdout}\n{said.stderr}"
    assert said.stdout.endswith("ok\n")
