"""Runs, the stage cache, and receipts."""

import os
import signal
from dataclasses import replace

import pytest

from cairn.core import ConflictError, InvalidRequestError, NotFoundError, Settings
from cairn.registry import Receipt, Registry, new_receipt_id
from tests.registry.conftest import Make


def test_a_run_from_start_to_end(registry: Registry, make: Make) -> None:
    source, output = make("in"), make("out")
    run = registry.start_run(
        recipe="tutorial", stage="sft", key="k", config={"lr": 1e-3, "layers": [1, 2]}, inputs=[source.digest]
    )
    assert (run.status, run.pid, run.inputs) == ("running", os.getpid(), (source.digest,))
    assert registry.run(run.run_id) == run
    ended = registry.finish_run(run.run_id, status="succeeded", output=output.digest)
    assert ended == registry.run(run.run_id)
    assert ended.finished_at is not None
    assert ended == replace(run, status="succeeded", output=output.digest, finished_at=ended.finished_at)


def test_children_and_order(registry: Registry) -> None:
    parent = registry.start_run(recipe="r")
    stages = [registry.start_run(recipe="r", stage=s, parent_id=parent.run_id) for s in ("a", "b")]
    assert registry.runs(parent_id=parent.run_id) == stages[::-1]
    assert registry.runs() == [*stages[::-1], parent]
    assert registry.runs(1) == [stages[1]]


def test_a_failed_run_keeps_its_error(registry: Registry) -> None:
    run = registry.start_run(recipe="r")
    assert registry.finish_run(run.run_id, status="failed", error="out of\0memory").error == "out ofmemory"
    with pytest.raises(ConflictError, match="has ended already"):
        registry.finish_run(run.run_id, status="succeeded")


def test_mistakes(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="input sha256:"):
        registry.start_run(recipe="r", inputs=["sha256:" + "0" * 64])
    assert list(registry.settings.runs_folder.glob("*/owner.lock")) == []
    with pytest.raises(NotFoundError, match="no run run_x"):
        registry.run("run_x")
    run = registry.start_run(recipe="r")
    with pytest.raises(InvalidRequestError, match="allowed"):
        registry.finish_run(run.run_id, status="done")  # type: ignore[arg-type]
    for run_id in ("../x", "", "a/b"):
        with pytest.raises(InvalidRequestError, match="not a run id"):
            registry.run_folder(run_id)


def test_run_folder(registry: Registry) -> None:
    run = registry.start_run(recipe="r")
    folder = registry.run_folder(run.run_id)
    assert folder == registry.settings.runs_folder / run.run_id
    assert folder.is_dir()


def test_a_run_whose_process_died_is_interrupted(settings: Settings) -> None:
    with Registry.open(settings):
        pass
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        registry = Registry.open(settings)
        os.write(write_end, registry.start_run(recipe="r").run_id.encode())
        signal.pause()
    run_id = os.read(read_end, 100).decode()
    with Registry.open(settings) as registry:
        assert registry.run(run_id).status == "running"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(read_end)
    os.close(write_end)
    with Registry.open(settings) as registry:
        run = registry.run(run_id)
        assert (run.status, run.error) == ("interrupted", "the process ended without finishing the run")
        assert run.finished_at is not None


def test_a_registry_closed_in_the_middle_leaves_an_interrupted_run(settings: Settings) -> None:
    with Registry.open(settings) as registry:
        run = registry.start_run(recipe="r")
    with Registry.open(settings) as registry:
        assert registry.run(run.run_id).status == "interrupted"


def test_cached_output(registry: Registry, make: Make) -> None:
    assert registry.cached_output("k") is None
    for text, status in (("one", "succeeded"), ("two", "succeeded"), ("three", "failed")):
        run = registry.start_run(recipe="r", key="k")
        registry.finish_run(run.run_id, status=status, output=make(text).digest)  # type: ignore[arg-type]
    assert registry.cached_output("k") == make("two")
    assert registry.cached_output("other") is None
    registry.remove(make("two").digest)
    assert registry.cached_output("k") == make("one")
    assert registry.cached_output("") is None


def test_a_cached_output_that_lost_its_folder_does_not_count(registry: Registry, make: Make) -> None:
    run = registry.start_run(recipe="r", key="k")
    registry.finish_run(run.run_id, status="succeeded", output=make().digest)
    registry.store.discard([make().digest])
    assert registry.cached_output("k") is None


def test_receipts(registry: Registry) -> None:
    receipt = Receipt(
        receipt_id=new_receipt_id(),
        created_at=1.5,
        kind="chat",
        model="assistant",
        artifact="sha256:" + "0" * 64,
        prompt_token_ids=[1, 2, 3],
        sampling={"temperature": 0.7, "seed": 2**63 - 1, "logit_bias": {"5": 1.0}},
        outputs=[[4, 5], [6]],
        finish_reasons=["stop", "length"],
        runner={"name": "torch", "dtype": "float32"},
        user_id="ann",
        request={"messages": [{"role": "user", "content": "a \0 and a \ud800"}]},
    )
    second = replace(receipt, receipt_id=new_receipt_id(), created_at=2.5)
    registry.save_receipt(receipt)
    registry.save_receipt(second)
    assert registry.receipt(receipt.receipt_id) == receipt
    assert registry.receipts() == [second, receipt]
    assert registry.receipts(1) == [second]
    with pytest.raises(NotFoundError, match="no receipt rcpt_0"):
        registry.receipt("rcpt_0")
