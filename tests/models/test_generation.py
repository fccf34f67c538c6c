"""Generation defaults of a checkpoint folder."""

import json
from pathlib import Path

import pytest

from cairn.core import IntegrityError
from cairn.models import GenerationDefaults, read_generation_defaults


def test_generation_config_wins_over_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0})
    )
    assert read_generation_defaults(tmp_path).eos_token_ids == (2,)
    generation = {"eos_token_id": [5, 6], "bos_token_id": None, "temperature": 0.6, "top_k": 20, "top_p": 1}
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert read_generation_defaults(tmp_path) == GenerationDefaults(
        eos_token_ids=(5, 6), bos_token_id=1, pad_token_id=0, temperature=0.6, top_k=20, top_p=1.0
    )


def test_a_folder_that_says_nothing(tmp_path: Path) -> None:
    assert read_generation_defaults(tmp_path) == GenerationDefaults()


@pytest.mark.parametrize("content", ["{", "5", "[" * 100_000])
def test_broken_json(tmp_path: Path, content: str) -> None:
    (tmp_path / "generation_config.json").write_text(content)
    with pytest.raises(IntegrityError, match=r"generation_config\.json"):
        read_generation_defaults(tmp_path)
