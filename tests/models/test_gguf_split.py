"""Models in several GGUF files: read through any part, refused with the name of what is missing or lies."""

import contextlib
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core import CairnError, IntegrityError, NotFoundError
from cairn.models import save_decoder
from cairn.models.gguf import open_gguf
from cairn.models.gguf_export import export_gguf
from cairn.models.gguf_import import convert_gguf
from cairn.models.gguf_split import part_names, split_name
from cairn.models.mapped_weights import map_weights
from tests.damage import damaged
from tests.models.gguf_bytes import File, Info, key
from tests.models.test_gguf_checkpoint import half_decoder


def split_by_llama_cpp(whole: Path, folder: Path, tensors: int) -> list[Path]:
    """The file as llama.cpp's package writes it in parts of so many tensors."""
    file = gguf.GGUFReader(whole)
    name = str(file.fields["general.architecture"].contents())
    writer = gguf.GGUFWriter(None, name, split_max_tensors=tensors)
    for field in file.fields.values():
        if field.name != "general.architecture" and not field.name.startswith("GGUF."):
            sub = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub)
    for tensor in file.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file(folder / "model.gguf")
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("model-*.gguf"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    save_decoder(half_decoder("qwen3"), folder / "made")
    export_gguf(folder / "made", folder / "whole.gguf", "f16", {})
    return folder / "whole.gguf"


@pytest.fixture
def parts(whole: Path, tmp_path: Path) -> list[Path]:
    return split_by_llama_cpp(whole, tmp_path, 15)


def test_all_parts_are_read_through_any(whole: Path, parts: list[Path], tmp_path: Path) -> None:
    assert [path.name for path in parts] == list(part_names(parts[0].name))
    assert len(parts) == 4
    expected = open_gguf(whole)
    convert_gguf(expected, tmp_path / "one")
    for path in (parts[0], parts[-1]):
        file = open_gguf(path)
        assert file.path == parts[0]
        assert file.size == sum(part.stat().st_size for part in parts)
        assert set(file.tensors) == set(expected.tensors)
        convert_gguf(file, tmp_path / "many")
        one, many = map_weights(tmp_path / "one"), map_weights(tmp_path / "many")
        assert all(np.array_equal(one[name].read(), many[name].read()) for name in one)


def test_a_part_that_is_not_there_is_named(parts: list[Path]) -> None:
    parts[2].unlink()
    for path in (parts[0], parts[3]):
        with pytest.raises(NotFoundError, match=r"model-00003-of-00004\.gguf is not in") as caught:
            open_gguf(path)
        assert caught.value.remedy


def test_parts_that_are_not_what_their_names_say(parts: list[Path]) -> None:
    shutil.copyfile(parts[1], parts[2])
    with pytest.raises(IntegrityError, match=r"00003-of-00004.* says it is part 2 of 4"):
        open_gguf(parts[0])
    alone = parts[0].rename(parts[0].with_name("model.gguf"))
    with pytest.raises(IntegrityError, match="says it is part 1 of 4"):
        open_gguf(alone)


def test_parts_of_different_models(parts: list[Path], tmp_path: Path) -> None:
    for name, message in (("qwen2", "more than one part"), ("gemma3", "says it is part 2 of 7")):
        folder = tmp_path / name
        save_decoder(half_decoder(name), folder)
        export_gguf(folder, folder / "whole.gguf", "f16", {})
        shutil.copyfile(split_by_llama_cpp(folder / "whole.gguf", folder, 15)[1], parts[1])
        with pytest.raises(IntegrityError, match=message):
            open_gguf(parts[0])


def number(name: str, value: int, kind: int = 2, form: str = "<H") -> bytes:
    return key(name, kind, struct.pack(form, value))


def lying(folder: Path, *, first: tuple[bytes, ...], second: tuple[bytes, ...], name: str = "b") -> Path:
    """Two parts of one tensor each."""
    paths = [folder / part for part in part_names("m-00001-of-00002.gguf")]
    paths[0].write_bytes(File(keys=first).content())
    paths[1].write_bytes(File(keys=second, infos=(Info(name=name),)).content())
    return paths[0]


COUNT = number("split.count", 2)
TOTAL = number("split.tensors.count", 2, 5, "<i")
FIRST, SECOND = (number("split.no", 0), COUNT, TOTAL), (number("split.no", 1), COUNT, TOTAL)
LIES: dict[str, tuple[dict[str, Any], str]] = {
    "fewer tensors": ({"first": (*FIRST[:2], number("split.tensors.count", 3, 5, "<i"))}, "hold 2 tensors"),
    "no count of tensors": ({"first": FIRST[:2]}, "split.tensors.count is None"),
    "no number": ({"first": FIRST[1:]}, "part None of 2"),
    "another count": ({"second": (SECOND[0], number("split.count", 3))}, "part 2 of 3"),
    "no count": ({"second": SECOND[:1]}, "part 2 of None"),
    "a huge count": ({"first": (FIRST[0], number("split.count", 65535))}, "part 1 of 65535"),
    "a count that is no number": (
        {"first": (FIRST[0], key("split.count", 7, b"\1"))},
        "part 1|hold|no whole",
    ),
    "a negative count": ({"first": (FIRST[0], number("split.count", -1, 5, "<i"))}, "part 1 of -1"),
    "a tensor twice": ({"name": "a"}, "a is in more than one part"),
}


@pytest.mark.parametrize("lie", LIES)
def test_parts_that_lie_are_refused(lie: str, tmp_path: Path) -> None:
    changes, message = LIES[lie]
    sound: dict[str, Any] = {"first": FIRST, "second": SECOND}
    assert len(open_gguf(lying(tmp_path, **sound)).tensors) == 2
    with pytest.raises(IntegrityError, match=message) as caught:
        open_gguf(lying(tmp_path, **(sound | changes)))
    assert caught.value.remedy


@given(seed=st.integers(0, 1 << 20), which=st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_damage_to_any_part_is_read_or_refused(seed: int, which: int, whole: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        paths = split_by_llama_cpp(whole, Path(name), 15)
        content = paths[which].read_bytes()
        paths[which].write_bytes(damaged(content, seed, min(len(content), 900)))
        with contextlib.suppress(CairnError):
            convert_gguf(open_gguf(paths[0]), Path(name) / "back")


def test_names() -> None:
    assert split_name("a/b-Q4_K_M-00002-of-00003.gguf") == ("a/b-Q4_K_M", 2, 3)
    assert split_name("b-2-of-3.gguf") is None
    assert list(part_names("b.gguf")) == ["b.gguf"]
    assert list(part_names("b-00002-of-00002.GGUF")) == ["b-00001-of-00002.GGUF", "b-00002-of-00002.GGUF"]
