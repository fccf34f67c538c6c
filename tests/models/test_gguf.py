"""The reader of GGUF: what llama.cpp's package wrote is read, lies are refused, damage never escapes."""

import functools
import struct
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core import CairnError, IntegrityError, NotFoundError, UnsupportedModelError
from cairn.models.gguf import _KNOWN_BY_NAME, is_gguf, open_gguf
from cairn.models.gguf_blocks import BLOCK_TYPES
from tests.models.gguf_bytes import File, Info, array, key, string

KEYS: dict[str, Any] = {
    "general.name": "stone",
    "a.flag": True,
    "a.texts": ["one", "zwei", "三"],
    "a.floats": [0.5, -1.0],
}


def written(path: Path) -> dict[str, Any]:
    """A file of llama.cpp's own writer with every block type; the tensors in float32."""
    generator = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.name", KEYS["general.name"])
    writer.add_bool("a.flag", KEYS["a.flag"])
    writer.add_array("a.texts", KEYS["a.texts"])
    writer.add_array("a.floats", KEYS["a.floats"])
    writer.add_int64("a.long", -(1 << 40))
    expected: dict[str, Any] = {}
    for kind in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1"):
        values = generator.standard_normal((3, 64)).astype(np.float32)
        number = gguf.GGMLQuantizationType[kind]
        stored = gguf.quants.quantize(values, number)
        expected[kind] = np.asarray(gguf.quants.dequantize(stored, number)).reshape(3, 64)
        is_plain = kind in ("F32", "F16")
        writer.add_tensor(kind, stored, raw_dtype=None if is_plain else number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


def test_what_llama_cpp_wrote_is_read(tmp_path: Path) -> None:
    expected = written(tmp_path / "a.gguf")
    file = open_gguf(tmp_path / "a.gguf")
    assert file.version == 3
    assert file.metadata["general.architecture"] == "llama"
    assert file.metadata["a.long"] == -(1 << 40)
    assert file.metadata["a.floats"].tolist() == KEYS["a.floats"]
    assert {name: file.metadata[name] for name in ("general.name", "a.flag", "a.texts")} == {
        name: KEYS[name] for name in ("general.name", "a.flag", "a.texts")
    }
    assert set(file.tensors) == set(expected)
    for name, values in expected.items():
        assert np.array_equal(file.tensors[name].read(), values), name


@pytest.mark.parametrize("version", [2, 3])
def test_a_small_file(version: int, tmp_path: Path) -> None:
    nested = array(9, 2, array(4, 1, struct.pack("<I", 7)) + array(8, 1, string("x")))
    path = File(version=version, keys=(key("n", 9, nested),)).write(tmp_path)
    file = open_gguf(path)
    assert file.version == version
    assert [list(part) for part in file.metadata["n"]] == [[7], ["x"]]
    assert file.tensors["a"].read().shape == (8,)
    assert is_gguf(path)
    assert not is_gguf(tmp_path)


ALIGN_48 = key("general.alignment", 4, struct.pack("<I", 48))
HUGE = (1 << 63) + 1
LIES: dict[str, tuple[File, str]] = {
    "magic": (File(magic=b"GGML"), "begins with b'GGML'"),
    "more keys than bytes": (File(num_keys=HUGE), f"would have {HUGE} keys"),
    "more tensors than bytes": (File(num_tensors=1 << 40), "tensors, there is room for"),
    "a missing tensor": (File(num_tensors=2, data=bytes(64)), "dimensions"),
    "a key longer than the file": (File(keys=(struct.pack("<Q", HUGE),)), "a key takes"),
    "a key that is no text": (File(keys=(string(b"\xff") + bytes(12),)), "no UTF-8"),
    "a key twice": (File(keys=(key("k", 0, b"\1"),) * 2), "'k' comes twice"),
    "a type of value": (File(keys=(key("k", 13, bytes(8)),)), "has type 13"),
    "a flag": (File(keys=(key("k", 7, b"\2"),)), "a flag of 2"),
    "an array longer than the file": (File(keys=(key("k", 9, array(6, 1 << 62)),)), "takes"),
    "texts than do not fit": (File(keys=(key("k", 9, array(8, 1 << 30)),)), "strings or arrays"),
    "nested too deep": (File(keys=(key("k", 9, array(9, 1) * 4 + array(0, 0)),)), "nested"),
    "alignment no power of two": (File(keys=(ALIGN_48,)), "is 48"),
    "alignment zero": (File(keys=(key("general.alignment", 4, bytes(4)),)), "is 0"),
    "alignment a text": (File(keys=(key("general.alignment", 8, string("32")),)), "is '32'"),
    "no dimensions": (File(infos=(Info(shape=()),), num_tensors=1, data=bytes(99)), "0 dimensions"),
    "five dimensions": (File(infos=(Info(shape=(1,) * 5),)), "5 dimensions"),
    "an empty dimension": (File(infos=(Info(shape=(8, 0)),)), r"shape \[0, 8\]"),
    "a size that overflows": (File(infos=(Info(shape=(1 << 32, 1 << 32)),)), "shape"),
    "rows of half a block": (File(infos=(Info(shape=(16, 2), type=2),)), "no multiple of 32"),
    "an offset out of line": (File(infos=(Info(offset=4),), data=bytes(64)), "no multiple of 32"),
    "an offset past the end": (File(infos=(Info(offset=1 << 40),)), "takes bytes"),
    "a tensor cut short": (File(data=bytes(31)), "takes bytes 0 to 32 of the data, which has 31"),
    "no data at all": (File(data=b"", alignment=1), "which has"),
    "tensors that overlap": (
        File(infos=(Info(shape=(16,)), Info(name="b", offset=32)), data=bytes(64)),
        "a and b overlap at byte 32",
    ),
    "a tensor twice": (File(infos=(Info(), Info(offset=32)), data=bytes(64)), "'a' comes twice"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused(lie: str, tmp_path: Path) -> None:
    file, message = LIES[lie]
    with pytest.raises(IntegrityError, match=message) as caught:
        open_gguf(file.write(tmp_path))
    assert "fetch" in caught.value.remedy


def test_types_that_are_not_read_have_their_names() -> None:
    assert all(gguf.GGMLQuantizationType(number).name == name for number, name in _KNOWN_BY_NAME.items())
    assert not set(_KNOWN_BY_NAME) & set(BLOCK_TYPES)


UNSUPPORTED: dict[str, tuple[File, str]] = {
    "version 1": (File(version=1), "version 1"),
    "big-endian": (File(version=3 << 24), "big-endian"),
    "a later version": (File(version=9), "version 9"),
    "an unknown type": (File(infos=(Info(type=99, shape=(256,)),)), "number format 99"),
    "a type by its name": (File(infos=(Info(type=23, shape=(256,)),)), "number format IQ4_XS"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_what_is_not_supported_says_what_is(case: str, tmp_path: Path) -> None:
    file, message = UNSUPPORTED[case]
    with pytest.raises(UnsupportedModelError, match=message) as caught:
        open_gguf(file.write(tmp_path))
    assert caught.value.remedy


def test_no_file_and_no_header(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        open_gguf(tmp_path / "none.gguf")
    (tmp_path / "empty.gguf").write_bytes(b"GGUF")
    with pytest.raises(IntegrityError, match="4 bytes"):
        open_gguf(tmp_path / "empty.gguf")


@functools.cache
def sound() -> bytes:
    """A small file with many kinds of values and blocks."""
    with tempfile.TemporaryDirectory() as folder:
        written(Path(folder) / "a.gguf")
        return (Path(folder) / "a.gguf").read_bytes()


@given(
    flips=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 255)), min_size=1, max_size=4),
    cut=st.integers(0, 4000),
)
@settings(max_examples=400, deadline=None)
def test_damage_is_refused_or_read_within_the_file(flips: list[tuple[int, int]], cut: int) -> None:
    content = bytearray(sound())
    for at, mask in flips:
        content[at] ^= mask
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "b.gguf"
        path.write_bytes(content[: len(content) - (cut if cut > 3000 else 0)])
        try:
            file = open_gguf(path)
        except CairnError:
            return
        for tensor in file.tensors.values():
            assert tensor.read().shape == tensor.shape
