"""Runs one training again and again in forked children and kills it at chosen moments.

Called by test_resume.py as `python -m tests.training.killed_run FOLDER`. A moment is a forward pass,
a tensor or folder written by a checkpoint, or a validation: they are counted, and at the chosen count
the process kills itself with SIGKILL, so nothing of Python or torch gets to clean up.
Prints how many moments a whole run has; leaves FOLDER/straight and FOLDER/killed-<moment>.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cairn.data import PackedDataset
from cairn.models import weight_files
from cairn.training import NextToken, Trainer, checkpoints
from cairn.training.throughput import matmul_peak
from tests.training import tiny

SHARES = (0.03, 0.25, 0.48, 0.7, 0.97)


def train(folder: Path, data: Path, kill_at: int | None, count: Path | None = None) -> None:
    """A run of 6 steps of two micro batches with a checkpoint every 2 and validation every 3."""
    moments = 0

    def moment(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal moments
            moments += 1
            if moments == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return counted

    weight_files.raw_bytes = moment(weight_files.raw_bytes)
    checkpoints._sync_folder = moment(checkpoints._sync_folder)
    NextToken.loss = moment(NextToken.loss)  # type: ignore[method-assign]
    config = tiny.config(
        steps=6, micro_batch_tokens=256, eval_every=3, checkpoint_every_steps=2, optimizer="muon"
    )
    dataset = PackedDataset.open(data)
    Trainer(tiny.model(), dataset, config, run_folder=folder, validation=dataset).fit()
    if count is not None:
        count.write_text(str(moments))


def in_child(*arguments: Any) -> int:
    """`train` in a forked child; its exit status as `os.waitpid` gives it."""
    child = os.fork()
    if child == 0:
        train(*arguments)
        os._exit(0)
    return os.waitpid(child, 0)[1]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    # Measured here once, so that the children need not.
    matmul_peak(torch.float32, torch.device("cpu"), 1)
    data = folder / "data"
    tiny.dataset(data, num_documents=10)
    assert in_child(folder / "straight", data, None, folder / "moments") == 0
    moments = int((folder / "moments").read_text())
    for share in SHARES:
        run = folder / f"killed-{round(share * moments)}"
        status = in_child(run, data, round(share * moments))
        assert os.WIFSIGNALED(status), f"{run} was not killed"
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert in_child(run, data, None) == 0
    print(moments)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
