"""Plans from a profile, and the profile's file."""

from pathlib import Path
from typing import Any

import pytest

from cairn.compute import Device, MachineProfile, ModelShape, machine_profile, plan, profile
from cairn.core import Settings

SHAPE = ModelShape(
    vocab_size=4096,
    hidden_size=256,
    num_layers=4,
    num_heads=4,
    num_kv_heads=4,
    head_dim=64,
    intermediate_size=768,
)
DEVICE = Device(processor="x", num_cores=2, memory_bytes=1 << 34, features=())
RATES = {"float32": {256: 80.0, 512: 100.0, 1024: 120.0}, "bfloat16": {256: 8.0, 512: 8.0, 1024: 8.0}}


def a_profile(**changes: Any) -> MachineProfile:
    values = {
        "device": DEVICE.digest,
        "torch": profile._torch_version(),
        "num_threads": 2,
        "matmul_gflops": RATES,
        "memory_gbps": 20.0,
        "measured_at": 0.0,
    }
    return MachineProfile.model_validate({**values, **changes})


def test_the_profile_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def measure(device: Device, is_busy: bool) -> MachineProfile:
        calls.append(device)
        return a_profile()

    monkeypatch.setattr(profile, "measure_profile", measure)
    monkeypatch.setattr("os.getloadavg", lambda: (0.1, 0.1, 0.1))
    settings = Settings(home=tmp_path)
    first = machine_profile(settings, device=DEVICE)
    assert machine_profile(settings, device=DEVICE) == first
    assert len(calls) == 1
    other = Device(processor="y", num_cores=2, memory_bytes=1 << 34, features=())
    machine_profile(settings, device=other)
    assert len(calls) == 2


def test_what_a_busy_machine_shows_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "measure_profile", lambda device, is_busy: a_profile())
    monkeypatch.setattr("os.getloadavg", lambda: (3.0, 3.0, 3.0))
    assert machine_profile(Settings(home=tmp_path), device=DEVICE) == a_profile()
    assert not (tmp_path / "machine.json").exists()


def test_a_damaged_profile_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "measure_profile", lambda device, is_busy: a_profile())
    (tmp_path / "machine.json").write_text("{")
    assert machine_profile(Settings(home=tmp_path), device=DEVICE) == a_profile()


@pytest.mark.parametrize("is_busy", [False, True])
def test_a_real_measurement_is_plausible(is_busy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "_SECONDS_EACH", 0.0)
    found = profile.measure_profile(DEVICE, is_busy=is_busy)
    assert all(rate > 0 for rates in found.matmul_gflops.values() for rate in rates.values())
    assert found.memory_gbps > 0


def test_time_follows_from_tokens_and_rates() -> None:
    sizes = {"batch_tokens": 4096, "micro_batch_tokens": 4096, "context": 256}
    once = plan(SHAPE, a_profile(), tokens=100_000, **sizes)  # type: ignore[arg-type]
    twice = plan(SHAPE, a_profile(), tokens=200_000, **sizes)  # type: ignore[arg-type]
    assert twice.seconds == pytest.approx(2 * once.seconds)
    assert once.basis == "profile"
    # No faster than the products alone would be.
    assert once.seconds > once.flops / 80e9
    assert once.seconds < 3 * once.flops / 80e9
    slow = plan(SHAPE, a_profile(), tokens=100_000, dtype="bfloat16", **sizes)  # type: ignore[arg-type]
    assert slow.seconds > 4 * once.seconds


def test_a_measured_rate_is_taken_as_it_is() -> None:
    found = plan(
        SHAPE,
        a_profile(),
        tokens=1000,
        batch_tokens=100,
        micro_batch_tokens=100,
        context=64,
        measured_tokens_per_second=50.0,
    )
    assert found.seconds == 20.0
    assert found.steps == 10
    assert found.basis == "measured"
