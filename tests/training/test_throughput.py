"""FLOP counts, the matmul peak and the loss curve."""

import json
from pathlib import Path

import pytest
import torch

from cairn.training import draw_loss_curve
from cairn.training.metrics import MetricsLog, read_metrics
from cairn.training.throughput import batch_flops, matmul_peak, peak_memory_bytes
from tests.training import tiny


def test_flops_count_products_and_only_the_attention_inside_documents() -> None:
    shape = tiny.model().config.shape()
    one, two = batch_flops(shape, [0, 64]), batch_flops(shape, [0, 32, 64])
    # Per layer, query and key pair: 4 FLOPs a channel forward, three times that with backward.
    pairs = 64 * 65 / 2 - 2 * 32 * 33 / 2
    assert one - two == pytest.approx(3 * 4 * 32 * 2 * pairs)
    assert two > 6 * shape.matmul_params * 64


def test_the_peak_is_measured_once() -> None:
    cpu = torch.device("cpu")
    peak = matmul_peak(torch.float32, cpu, 1)
    assert peak > 1e8
    assert matmul_peak(torch.float32, cpu, 1) == peak
    assert peak_memory_bytes(cpu) > 10**7


def test_a_curve_is_drawn_from_any_stage_of_a_run(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.cut(0)
    picture = tmp_path / "loss.png"
    draw_loss_curve(log.path, picture, title="nothing yet")
    for step in range(1, 4):
        common = {"step": step, "tokens": 100 * step, "loss": 3.0 / step, "learning_rate": 1e-3}
        log.write(split="train", **common)
        log.write(split="validation", **common)
    with log.path.open("a") as file:
        file.write('{"step": 4, "spl')
    draw_loss_curve(log.path, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_metrics_are_cut_back_to_where_a_checkpoint_was(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    log.cut(0)
    log.write(step=1)
    size = log.size
    log.write(step=2)
    log.cut(size)
    log.write(step=3)
    assert list(read_metrics(log.path)) == [{"step": 1}, {"step": 3}]
    log.cut(10**9)
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [1, 3]
