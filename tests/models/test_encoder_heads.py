"""Heads: saved in PEFT's layout, read back to the same numbers, and refused on another base."""

import json
from pathlib import Path

import numpy as np
import peft
import pytest
import torch

from cairn.core import IntegrityError
from cairn.models.adapters import CONFIG_NAME
from cairn.models.encoder import load_encoder
from cairn.models.encoder_heads import HEAD_NAME, HEAD_TASKS, read_head_spec, read_token_weights
from tests.models.tiny_encoders import VOCAB, tiny_encoder
from tests.models.tiny_heads import tiny_head

BOUNDS = [0, 7, 8, 20]


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(3)
    ids, types = rng.integers(0, VOCAB, BOUNDS[-1]), rng.integers(0, 2, BOUNDS[-1])
    return torch.from_numpy(ids), torch.from_numpy(types)


@pytest.mark.parametrize("task", list(HEAD_TASKS))
@torch.no_grad()
def test_what_is_saved_is_what_was_trained(task: str, tmp_path: Path) -> None:
    _, base = tiny_encoder("bert")
    model = tiny_head(base, tmp_path, task, slope=2.0)  # type: ignore[arg-type]
    ids, types = inputs()
    ours = load_encoder(base, head=tmp_path)(ids, BOUNDS, types)
    torch.testing.assert_close(ours, model(ids, BOUNDS, types), atol=2e-5, rtol=0)
    assert not torch.allclose(ours[:, :2], load_encoder(base).hidden(ids, [7, 1, 12], types)[:, :2], atol=0.1)
    assert read_head_spec(tmp_path).values == {"slope": 2.0}


@torch.no_grad()
def test_peft_computes_the_same(tmp_path: Path) -> None:
    theirs, base = tiny_encoder("bert")
    tiny_head(base, tmp_path, "reranking")
    adapted = peft.PeftModel.from_pretrained(type(theirs).from_pretrained(base), tmp_path).eval()
    ids, types = inputs()
    ours = load_encoder(base, head=tmp_path).hidden(ids[8:], [12], types[8:])
    expected = adapted(input_ids=ids[None, 8:], token_type_ids=types[None, 8:]).last_hidden_state[0]
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=0)


def test_only_the_head_learns(tmp_path: Path) -> None:
    _, base = tiny_encoder("bert")
    model = tiny_head(base, tmp_path, "reading")
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(name.endswith((".a", ".b")) or ".head.output." in name for name in learned)
    assert model.num_trained == 2 * 4 * (3 * 96 + 96 + 2 * (48 + 72)) + 2 * 49


def test_a_head_is_for_its_base_alone(tmp_path: Path) -> None:
    _, base = tiny_encoder("bert")
    tiny_head(base, tmp_path, "reading")
    _, other = tiny_encoder("bert", "ForMaskedLM")
    with pytest.raises(IntegrityError, match="was trained on tiny"):
        load_encoder(other, head=tmp_path)
    with pytest.raises(IntegrityError, match="token_weights"):
        read_token_weights(tmp_path)
    values = json.loads((tmp_path / HEAD_NAME).read_text()) | {"task": "singing"}
    (tmp_path / HEAD_NAME).write_text(json.dumps(values))
    with pytest.raises(IntegrityError, match="'singing', allowed: reading, reranking"):
        read_head_spec(tmp_path)


def test_a_head_with_a_strange_tensor_is_refused(tmp_path: Path) -> None:
    _, base = tiny_encoder("bert")
    tiny_head(base, tmp_path, "reading")
    values = json.loads((tmp_path / CONFIG_NAME).read_text()) | {"r": 5}
    (tmp_path / CONFIG_NAME).write_text(json.dumps(values))
    with pytest.raises(IntegrityError, match="does not fit its base"):
        load_encoder(base, head=tmp_path)
