"""AdamW against torch's plain one, Muon's orthogonality, and which weights get which."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cairn.training import Trainer
from cairn.training.optimizers import (
    MOONLIGHT_SCALE,
    Muon,
    hidden_matrices,
    load_optimizer_tensors,
    make_optimizers,
    optimizer_tensors,
    orthogonalise,
)
from tests.training import tiny


def weights_of(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters())


def test_training_equals_a_plain_loop_with_torch_adamw(tmp_path: Path) -> None:
    """Optimizer, clipping, schedule and loss together, against the most ordinary code there is."""
    from cairn.models import PackedAttention
    from cairn.training.schedules import learning_rate

    data, config, ours, theirs = tiny.dataset(tmp_path / "data"), tiny.config(), tiny.model(), tiny.model()
    Trainer(ours, data, config, run_folder=tmp_path / "run").fit()
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, betas=(config.beta1, config.beta2), eps=config.epsilon, foreach=False)
    for step in range(8):
        batch = data.batch(step, tokens=512, seed=0, max_document=128)
        ids, labels, positions = (
            torch.from_numpy(array) for array in (batch.input_ids, batch.labels, batch.positions)
        )
        logits = theirs.logits(theirs(ids, positions, PackedAttention(batch.cu_seqlens.tolist())))
        torch.nn.functional.cross_entropy(logits, labels).backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        for group in adamw.param_groups:
            group["lr"] = learning_rate(step, 8, config)
        adamw.step()
        adamw.zero_grad()
    for name, weight in ours.named_parameters():
        torch.testing.assert_close(weight, weights_of(theirs)[name], rtol=1e-3, atol=2e-5, msg=name)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(2, 40), columns=st.integers(2, 40), seed=st.integers(0, 1000))
def test_newton_schulz_makes_singular_values_about_one(rows: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    left, _ = torch.linalg.qr(torch.randn(rows, min(rows, columns), generator=generator))
    right, _ = torch.linalg.qr(torch.randn(columns, min(rows, columns), generator=generator))
    # The coefficients trade accuracy for speed: from 1 % of the largest value on, 0.3 to 1.3 (Jordan et al.).
    values = torch.linspace(1.0, 0.05, min(rows, columns))
    made = orthogonalise(100 * left @ torch.diag(values) @ right.T)
    singular = torch.linalg.svdvals(made)
    assert singular.min() > 0.3
    assert singular.max() < 1.3


def test_newton_schulz_keeps_the_singular_vectors() -> None:
    matrix = torch.randn(12, 20, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    middle = left.T @ orthogonalise(matrix) @ right.T
    assert (middle - torch.diag(middle.diag())).abs().max() < 1e-3


def test_a_stack_of_matrices_is_orthogonalised_one_by_one() -> None:
    stack = torch.randn(3, 6, 10, generator=torch.Generator().manual_seed(0))
    together = orthogonalise(stack)
    for place in range(3):
        torch.testing.assert_close(together[place], orthogonalise(stack[place]))


def test_a_muon_update_has_the_size_of_adamws() -> None:
    weight = nn.Parameter(torch.zeros(64, 48))
    weight.grad = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    Muon([weight], lr=0.5, momentum=0.95, weight_decay=0.1, dtype=torch.float32).step()
    rms = weight.detach().square().mean().sqrt().item() / 0.5
    assert rms == pytest.approx(MOONLIGHT_SCALE, rel=0.25)


def test_muon_takes_the_layers_matrices_and_adamw_the_rest() -> None:
    model = tiny.model(tie_word_embeddings=False)
    hidden = hidden_matrices(model)
    weights = weights_of(model)
    assert hidden
    assert all(name.startswith("layers.") and weights[name].ndim >= 2 for name in hidden)
    adamw, muon = make_optimizers(model, weights, tiny.config(optimizer="muon"), torch.float32)
    in_muon = {id(weight) for group in muon.param_groups for weight in group["params"]}
    assert in_muon == {id(weights[name]) for name in hidden}
    in_adamw = {id(weight) for group in adamw.param_groups for weight in group["params"]}
    assert in_adamw == {id(weight) for weight in weights.values()} - in_muon
    decayed = {id(w) for group in adamw.param_groups if group["weight_decay"] for w in group["params"]}
    assert all(
        (weight.ndim >= 2) == (id(weight) in decayed) for weight in weights.values() if id(weight) in in_adamw
    )


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_state_survives_being_flattened(kind: str) -> None:
    def train(
        model: nn.Module, steps: range, saved: dict[str, torch.Tensor] | None
    ) -> dict[str, torch.Tensor]:
        weights = weights_of(model)
        optimizers = make_optimizers(model, weights, tiny.config(optimizer=kind), torch.float32)
        if saved is not None:
            load_optimizer_tensors(optimizers, weights, saved)
        for step in steps:
            for place, weight in enumerate(weights.values()):
                generator = torch.Generator().manual_seed(100 * step + place)
                weight.grad = torch.randn(weight.shape, generator=generator)
            for optimizer in optimizers:
                optimizer.step()
        return {name: tensor.clone() for name, tensor in optimizer_tensors(optimizers, weights).items()}

    straight, stopped = tiny.model(), tiny.model()
    expected = train(straight, range(4), None)
    found = train(stopped, range(2, 4), train(stopped, range(2), None))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    for ours, theirs in zip(straight.parameters(), stopped.parameters(), strict=True):
        assert torch.equal(ours, theirs)
