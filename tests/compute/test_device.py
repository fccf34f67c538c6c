"""The probe reads the system's files."""

import sys
from pathlib import Path

import pytest

from cairn.compute import probe_device


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    (tmp_path / "cpuinfo").write_text(
        "processor : 0\nmodel name : Testing 3000\nflags : fpu avx2 avx512f amx_bf16\n"
    )
    (tmp_path / "meminfo").write_text("MemTotal:       16000000 kB\nMemFree: 1 kB\n")
    return tmp_path


def test_what_the_files_say(machine: Path) -> None:
    device = probe_device(machine, machine)
    assert device.processor == "Testing 3000"
    assert device.features == ("avx2", "avx512f", "amx_bf16")
    assert device.has_bf16
    assert device.memory_bytes == 16_000_000 * 1024


def test_a_container_limits_cores_and_memory(machine: Path) -> None:
    (machine / "cpu.max").write_text("100000 100000\n")
    (machine / "memory.max").write_text("1000000000\n")
    device = probe_device(machine, machine)
    assert device.num_cores == 1
    assert device.memory_bytes == 1_000_000_000


def test_no_limit_is_no_limit(machine: Path) -> None:
    (machine / "cpu.max").write_text("max 100000\n")
    (machine / "memory.max").write_text("max\n")
    assert probe_device(machine, machine).memory_bytes == 16_000_000 * 1024


def test_emulated_bfloat16_does_not_count(machine: Path) -> None:
    (machine / "cpuinfo").write_text("model name : Old\nflags : avx2 avx512f\n")
    assert not probe_device(machine, machine).has_bf16


def test_this_machine_is_known_without_torch() -> None:
    import subprocess

    code = "import sys; from cairn.compute import probe_device as p; assert p().num_cores >= 1; "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
