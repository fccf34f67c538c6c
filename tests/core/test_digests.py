import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cairn.core import canonical_json, digest_bytes, digest_file, digest_json, short

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(JSON)
def test_canonical_json_round_trips_and_is_stable(value: object) -> None:
    encoded = canonical_json(value)
    assert json.loads(encoded) == value
    assert canonical_json(json.loads(encoded)) == encoded


@given(st.dictionaries(st.text(), st.integers()))
def test_key_order_does_not_matter(value: dict[str, int]) -> None:
    assert digest_json(dict(reversed(value.items()))) == digest_json(value)


def test_nan_has_no_digest() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_json({"loss": float("nan")})


def test_file_and_bytes_agree_with_hashlib(tmp_path: Path) -> None:
    data = bytes(range(256)) * 9000  # more than one read
    (tmp_path / "f").write_bytes(data)
    expected = "sha256:" + hashlib.sha256(data).hexdigest()
    assert digest_file(tmp_path / "f") == digest_bytes(data) == expected
    assert short(expected) == expected[7:19]
