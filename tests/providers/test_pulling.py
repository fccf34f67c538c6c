"""`cairn pull` against a server with the Hub's endpoints: what is chosen, fetched, taken up, refused."""

import json
from collections.abc import Iterator

import huggingface_hub.constants
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from cairn.cli import app
from cairn.core import Settings
from cairn.core.errors import (
    CairnError,
    IntegrityError,
    InvalidRequestError,
    NotFoundError,
    StorageError,
    UnavailableError,
    UnsupportedModelError,
)
from cairn.models import load_decoder
from cairn.models.mapped_weights import map_weights
from cairn.providers.exporting import export_model
from cairn.providers.gguf_choice import choose_gguf, gguf_choices
from cairn.providers.importing import pull_checkpoint
from cairn.registry import Artifact, Registry
from tests.damage import damaged
from tests.engine.tiny_adapters import SPLIT, save_adapter
from tests.models.test_gguf_split import split_by_llama_cpp
from tests.providers.hub_server import HubServer, serving
from tests.providers.tiny_model import tiny_artifact

Ggufs = dict[str, bytes]


@pytest.fixture(scope="module")
def ggufs(tmp_path_factory: pytest.TempPathFactory) -> Ggufs:
    """The files of a repository that holds only GGUF."""
    folder = tmp_path_factory.mktemp("gguf")
    with Registry.open(Settings(home=folder / "home")) as registry:
        tiny_artifact(registry, generation={"temperature": 0.5, "top_k": 7, "eos_token_id": [1]})
        export_model(registry, "tiny", folder / "q8.gguf", "q8_0")
        export_model(registry, "tiny", folder / "f16.gguf", "f16")
    (folder / "parts").mkdir()
    parts = split_by_llama_cpp(folder / "f16.gguf", folder / "parts", 8)
    return {
        "Stones-Q8_0.gguf": (folder / "q8.gguf").read_bytes(),
        "F16/Stones-F16-00001-of-00003.gguf": parts[0].read_bytes(),
        "F16/Stones-F16-00002-of-00003.gguf": parts[1].read_bytes(),
        "F16/Stones-F16-00003-of-00003.gguf": parts[2].read_bytes(),
        "mmproj-Q8_0.gguf": b"an encoder of images",
        "README.md": b"# Stones\n",
        "imatrix.dat": b"not wanted",
    }


@pytest.fixture
def hub(ggufs: Ggufs, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with serving(HubServer(dict(ggufs))) as server:
        constants = huggingface_hub.constants
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield server


@pytest.fixture
def registry(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("CAIRN_HOME", str(settings.home))
    with Registry.open(settings) as opened:
        yield opened


def left(registry: Registry) -> list[str]:
    """Files of unfinished pulls."""
    folder = registry.settings.home / "pulls"
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def cairn(*arguments: str) -> Result:
    result = CliRunner().invoke(app, [*arguments])
    if isinstance(result.exception, CairnError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_the_usual_file_is_pulled(hub: HubServer, registry: Registry) -> None:
    said = cairn("pull", "someone/stones")
    size = len(hub.files["Stones-Q8_0.gguf"])
    assert f"stones is here (Q8_0 of {size / 1000:.1f} kB); talk to it" in said.stderr
    made = registry.get("stones")
    assert made.metadata["origin"] == "someone/stones/Stones-Q8_0.gguf"
    assert made.metadata["gguf"] == {"quantisation": "Q8_0", "size": size}
    assert (made.folder / "card.md").read_bytes() == b"# Stones\n"
    generation = json.loads((made.folder / "generation_config.json").read_text())
    assert (generation["temperature"], generation["top_k"], generation["do_sample"]) == (0.5, 7, True)
    assert {path.rpartition("/")[2] for path, _, _ in hub.requests} == {"Stones-Q8_0.gguf", "README.md"}
    assert f"Q8_0 of {size / 1000:.1f} kB" in cairn("models", "ls").stdout
    assert left(registry) == []


def test_the_token_goes_to_the_hub_alone(hub: HubServer, registry: Registry) -> None:
    pull_checkpoint(registry, "someone/stones")
    tokens = {(path.startswith("/storage/"), token) for path, _, token in hub.requests}
    assert tokens == {(False, "Bearer hf_secret"), (True, "")}
    assert "/cache/README.md" in {path for path, _, _ in hub.requests}


def test_all_parts_of_a_split_model_are_pulled(hub: HubServer, registry: Registry) -> None:
    split = pull_checkpoint(registry, "someone/stones:f16", name="split")
    assert split.metadata["gguf"]["quantisation"] == "F16"
    parts = [data for path, data in hub.files.items() if path.startswith("F16/")]
    assert split.metadata["gguf"]["size"] == sum(map(len, parts))
    tiny = tiny_artifact(registry)
    before, after = map_weights(tiny.folder), map_weights(split.folder)
    for name, tensor in before.items():
        kept = tensor.read() if len(tensor.shape) == 1 else tensor.read().astype(np.float16)
        assert np.array_equal(after[name].read(), kept), name


def test_safetensors_are_pulled_where_there_are_any(hub: HubServer, registry: Registry) -> None:
    tiny = tiny_artifact(registry)
    files = {path.name: path.read_bytes() for path in tiny.folder.iterdir()}
    hub.files.update(files | {"pytorch_model.bin": b"a pickle"})
    made = cairn("pull", "someone/stones", "--revision", "v1", "--name", "whole")
    assert "whole is here; talk" in made.stderr
    assert registry.get("whole").metadata["origin"] == "someone/stones"
    assert {path.rpartition("/")[2] for path, _, _ in hub.requests} == set(files) | {"README.md"}
    assert cairn("import", "someone/stones:Q8_0").exit_code == 0
    assert registry.get("stones").metadata["gguf"]["quantisation"] == "Q8_0"


def test_an_adapter_is_pulled_for_its_base(hub: HubServer, registry: Registry) -> None:
    tiny = tiny_artifact(registry)
    folder = save_adapter(load_decoder(tiny.folder), SPLIT)
    hub.files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(NotFoundError, match="base 'nothing' is not here"):
        cairn("pull", "someone/stones", "--base", "nothing")
    assert hub.requests == []
    assert "stones is here" in cairn("pull", "someone/stones", "--base", "tiny").stderr
    made = registry.get("stones")
    assert (made.kind, made.parents, made.metadata["origin"]) == ("adapter", (tiny.digest,), "someone/stones")
    assert left(registry) == []


def test_a_connection_that_breaks_is_taken_up_again(hub: HubServer, registry: Registry) -> None:
    hub.break_after = len(hub.files["Stones-Q8_0.gguf"]) // 3
    pull_checkpoint(registry, "someone/stones")
    ranges = [asked for path, asked, _ in hub.requests if path == "/storage/Stones-Q8_0.gguf"]
    assert ranges == ["", *(f"bytes={hub.break_after * times}-" for times in range(1, len(ranges)))]
    assert len(ranges) >= 3


def test_a_later_pull_goes_on_where_one_stopped(hub: HubServer, registry: Registry) -> None:
    hub.break_after, hub.can_resume = 1000, False
    with pytest.raises(UnavailableError, match="broke off after 1000 of") as caught:
        pull_checkpoint(registry, "someone/stones")
    assert "goes on where it stopped" in caught.value.remedy
    assert left(registry) == ["Stones-Q8_0.gguf.part"]
    hub.break_after, hub.can_resume = None, True
    hub.requests.clear()
    pull_checkpoint(registry, "someone/stones")
    assert {asked for path, asked, _ in hub.requests if "README.md" not in path} == {"bytes=1000-"}
    assert left(registry) == []


@pytest.mark.parametrize("longer", [-1, 1, 1 << 40])
def test_a_length_that_lies_is_refused(longer: int, hub: HubServer, registry: Registry) -> None:
    hub.longer = longer
    size = len(hub.files["Stones-Q8_0.gguf"])
    with pytest.raises(IntegrityError, match=f"would have {size + longer} bytes, the file has {size}"):
        pull_checkpoint(registry, "someone/stones")
    assert left(registry) == []


@pytest.mark.parametrize("name", ["Stones-Q8_0.gguf", "README.md"])
def test_other_bytes_than_the_listed_are_refused(name: str, hub: HubServer, registry: Registry) -> None:
    hub.served[name] = hub.files[name][:-1] + bytes([hub.files[name][-1] ^ 1])
    with pytest.raises(IntegrityError, match=f"{name} is not the file .* digest differs"):
        pull_checkpoint(registry, "someone/stones")
    assert name not in left(registry)
    assert registry.artifacts() == []
    hub.served.clear()
    pull_checkpoint(registry, "someone/stones")


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_an_answer_that_refuses_is_told(status: int, hub: HubServer, registry: Registry) -> None:
    hub.answers["Stones-Q8_0.gguf"] = status
    with pytest.raises(UnavailableError, match=f"answered {status}") as caught:
        pull_checkpoint(registry, "someone/stones")
    assert ("HF_TOKEN" in caught.value.remedy) == (status in (401, 403))


def test_what_is_not_there(hub: HubServer, registry: Registry, settings: Settings) -> None:
    with pytest.raises(NotFoundError, match="no repository 'someone/else'"):
        cairn("pull", "someone/else")
    with pytest.raises(NotFoundError, match="has no revision 'v2'"):
        cairn("pull", "someone/stones", "--revision", "v2")
    with pytest.raises(NotFoundError, match="no GGUF file 'Q4_K_M'") as caught:
        cairn("pull", "someone/stones:Q4_K_M")
    lines = caught.value.remedy.splitlines()
    assert lines[0] == "choose one:"
    assert [line.split()[2] for line in lines[1:]] == ["someone/stones:F16", "someone/stones:Q8_0"]
    assert "bytes" in lines[1] or "MB" in lines[1]
    with pytest.raises(InvalidRequestError, match="is no repository"):
        cairn("pull", "someone/stones:Q4 K")
    assert not (settings.home / "pulls").exists()


@pytest.mark.parametrize("path", ["../evil.gguf", "/evil.gguf", "a/../../b", "", "a\0b", "a" * 300])
def test_a_list_that_leaves_its_folder_is_refused(path: str, hub: HubServer, registry: Registry) -> None:
    hub.listed = [{"type": "file", "path": path, "size": 3, "oid": "0" * 40}]
    with pytest.raises(IntegrityError, match="cannot be a file of it"):
        pull_checkpoint(registry, "someone/stones")


def test_a_list_that_is_none_is_an_error(hub: HubServer, registry: Registry) -> None:
    for entry in ({"type": "file"}, {"type": "file", "path": "a", "size": "3", "oid": "0"}, {}):
        hub.listed = [entry]
        with pytest.raises((UnavailableError, IntegrityError)):
            pull_checkpoint(registry, "someone/stones")


def test_more_than_the_disk_holds_is_not_begun(hub: HubServer, registry: Registry) -> None:
    hub.listed = [{"type": "file", "path": "Stones-Q4_K_M.gguf", "size": 1 << 60, "oid": "0" * 40}]
    with pytest.raises(StorageError, match="are free"):
        pull_checkpoint(registry, "someone/stones")
    assert hub.requests == []


def test_damage_is_refused_or_imported_whole(hub: HubServer, registry: Registry) -> None:
    """Files whose digests are right and whose content is not: nothing but an error with a remedy."""
    sound = hub.files["Stones-Q8_0.gguf"]
    refused = 0
    for seed in range(25):
        hub.files["Stones-Q8_0.gguf"] = damaged(sound, seed, 4000)
        try:
            made: Artifact | None = pull_checkpoint(registry, "someone/stones")
        except CairnError as error:
            refused, made = refused + 1, None
            remedy = error.remedy
            assert remedy, str(error)  # noqa: PT017
        assert made is None or "gguf" in made.metadata
        assert left(registry) == []
        assert not list(registry.settings.home.glob("gguf-*"))
    assert refused > 5


SIZES = {
    "big/Model-BF16-00001-of-00002.gguf": 10,
    "big/Model-BF16-00002-of-00002.gguf": 10,
    "Model-Q4_K_M.gguf": 5,
    "Model-UD-Q4_K_M.gguf": 5,
    "Model-IQ4_XS.gguf": 4,
    "model.q5_k_m.gguf": 6,
    "Model-Q6_K-00001-of-00002.gguf": 3,
    "Other-Q8_0.gguf": 8,
    "Third-Q8_0.gguf": 8,
    "mmproj-Model-Q8_0.gguf": 1,
    "README.md": 1,
}
CHOSEN = {
    "": "Model-Q4_K_M",
    "Q4_K_M": "Model-Q4_K_M",
    "ud-q4_k_m": "Model-UD-Q4_K_M",
    "bf16": "big/Model-BF16",
    "Q5_K_M": "model.q5_k_m",
    "Third-Q8_0": "Third-Q8_0",
    "other": "Other-Q8_0",
    "Other-Q8_0.gguf": "Other-Q8_0",
}
REFUSED: dict[str, tuple[type[CairnError], str]] = {
    "Q8_0": (InvalidRequestError, "holds 2 GGUF files Q8_0"),
    "Q4_K": (NotFoundError, "no GGUF file 'Q4_K'"),
    "F16": (NotFoundError, "no GGUF file 'F16'"),
    "IQ4_XS": (UnsupportedModelError, "Model-IQ4_XS.gguf is in a number format that is not read"),
    "Q6_K": (IntegrityError, "lacks Model-Q6_K-00002-of-00002.gguf, one of 2 parts"),
}


@pytest.mark.parametrize("wanted", CHOSEN)
def test_a_choice(wanted: str) -> None:
    assert choose_gguf(gguf_choices(SIZES), wanted, "a/b").stem == CHOSEN[wanted]


@pytest.mark.parametrize("wanted", REFUSED)
def test_a_choice_that_is_none_lists_all(wanted: str) -> None:
    kind, message = REFUSED[wanted]
    with pytest.raises(kind, match=message) as caught:
        choose_gguf(gguf_choices(SIZES), wanted, "a/b")
    lines = caught.value.remedy.splitlines()[1:]
    assert len(lines) == len(gguf_choices(SIZES))
    found = {line.split()[2]: line for line in lines}
    assert "20 bytes" in found["a/b:BF16"]
    assert "not read" in found["a/b:IQ4_XS"]
    assert "not whole" in found["a/b:Q6_K"]
    for line in lines:  # what is listed can be typed
        tag = line.split()[2].partition(":")[2]
        if "not" not in line:
            choose_gguf(gguf_choices(SIZES), tag, "a/b")


def test_choices_without_the_usual_ones() -> None:
    assert choose_gguf(gguf_choices({"a-Q5_0.gguf": 1, "a-IQ2_M.gguf": 1}), "", "a/b").stem == "a-Q5_0"
    for sizes, message in (
        ({"a-Q5_0.gguf": 1, "a-Q6_K.gguf": 1}, "holds 2 GGUF files\n"),
        ({"a-Q4_K_M.gguf": 1, "b-Q4_K_M.gguf": 1}, "2 GGUF files Q4_K_M"),
        ({"a-IQ2_M.gguf": 1}, "in a number format that is read"),
        ({"a.bin": 1}, "holds no GGUF file"),
        ({"a-00000-of-00000.gguf": 1, "b-00000-of-00000.gguf": 1}, "holds 2 GGUF files"),
    ):
        with pytest.raises(CairnError, match=message):
            choose_gguf(gguf_choices(sizes), "", "a/b")


def test_parts_count_together() -> None:
    (whole,) = gguf_choices({f"A-Q4_0-0000{part}-of-00003.gguf": part for part in (1, 2, 3)})
    assert (whole.size, len(whole.paths), whole.missing) == (6, 3, "")
    (lying,) = gguf_choices({"A-Q4_0-00001-of-99999.gguf": 1})
    assert (len(lying.paths), lying.missing) == (2, "A-Q4_0-00002-of-99999.gguf")
