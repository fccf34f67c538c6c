"""Predictions of a recipe, before and after it is built."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cairn.compute import Device, MachineProfile
from cairn.lifecycle import plan_recipe, predictions
from cairn.lifecycle.comparison import comparison_rows, comparisons, drop_plan, keep_plan, whole_comparison
from cairn.lifecycle.probe import Measured
from cairn.registry import Registry

from .conftest import Built

RATES = {256: 50.0, 512: 50.0, 1024: 50.0}
PROFILE = MachineProfile(
    device="sha256:0",
    torch="0",
    num_threads=2,
    matmul_gflops={"float32": RATES, "bfloat16": RATES},
    memory_gbps=20.0,
    measured_at=0.0,
)


@pytest.fixture(autouse=True)
def profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "machine_profile", lambda settings, device: PROFILE)


def test_a_plan_before_anything_is_built(recipe_path: Path, registry: Registry) -> None:
    found = plan_recipe(recipe_path, registry, measure=False)
    stages = {stage.stage: stage for stage in found.stages}
    assert stages["pretrain"].tokens == 12 * 512
    assert stages["pretrain"].basis == "profile"
    assert stages["data"].basis == "rule of thumb"
    assert found.seconds == sum(stage.seconds for stage in found.stages)
    assert not found.warnings


def test_after_a_build_the_plan_knows_how_right_it_was(built: Built) -> None:
    found = plan_recipe(built.recipe_path, built.registry, measure=False)
    stages = {stage.stage: stage for stage in found.stages}
    assert found.num_params == built.result.model.metadata["parameters"]
    assert stages["data"].basis == "last run"
    took = comparisons("tiny", built.registry)
    assert set(took) == set(stages)
    assert took["data"].off_by is None
    assert whole_comparison(built.result, built.registry) is None
    folders = {each.stage: built.registry.run_folder(each.run_id) for each in built.result.outcomes}
    for plan in found.stages:
        keep_plan(plan, folders[plan.stage])
    took = comparisons("tiny", built.registry)
    assert took["data"].off_by == pytest.approx(0)
    whole = whole_comparison(built.result, built.registry)
    assert whole is not None
    assert whole.predicted == pytest.approx(found.seconds)
    assert whole.actual == pytest.approx(sum(outcome.seconds for outcome in built.result.outcomes))
    rows = comparison_rows(built.result, built.registry)
    drop_plan(folders["sft"])  # as for a stage that goes on where another build stopped
    assert whole_comparison(built.result, built.registry) is None
    assert not any(row[0].startswith("sft") for row in comparison_rows(built.result, built.registry))
    for folder in folders.values():
        drop_plan(folder)
    assert {row[0] for row in rows} >= {"pretrain, peak memory in MB", "sft, tokens", "data, seconds"}
    assert stages["sft"].tokens is not None
    actual = built.result.outcome("sft").artifact.metadata["tokens"]
    assert stages["sft"].tokens == pytest.approx(actual, rel=0.5)


def test_measured_rates_are_used_and_named(
    recipe_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = Measured(1024.0, 1, is_disturbed=True)
    monkeypatch.setattr("cairn.lifecycle.probe.measure", lambda *_, document_tokens: measured)
    found = plan_recipe(recipe_path, registry)
    stages = {stage.stage: stage for stage in found.stages}
    assert stages["pretrain"].basis == stages["sft"].basis == "measured"
    assert 6.0 < stages["pretrain"].seconds < 60
    assert stages["pretrain"].memory_bytes == 1
    assert "other programs are using this machine" in found.warnings[0]


def test_what_does_not_fit_is_said_beforehand(
    changed: Callable[[str, str], Path], registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Device(processor="x", num_cores=2, memory_bytes=1_000_000_000, features=())
    monkeypatch.setattr(predictions, "this_device", lambda: small)
    changed("hidden_size = 32", "hidden_size = 1024")
    changed("num_layers = 2", "num_layers = 12")
    changed("steps = 12", "steps = 100000")
    path = changed('intended_use = "Tests."', 'intended_use = "Tests."\nmax_bytes = 16_000_000')
    warnings = "\n".join(plan_recipe(path, registry, measure=False).warnings)
    assert "this machine has 1.0 GB" in warnings
    assert "release.max_bytes allows 16.0 MB" in warnings
    assert "learn them by heart" in warnings
