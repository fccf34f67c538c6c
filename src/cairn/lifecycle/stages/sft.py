"""sft: the base model learns to answer, follow the chat template and end its turn.

A share of plain passages is mixed in (`replay_share`), so that the model does not forget how to
write while it learns to answer; the loss there covers every token, in conversations only the
assistant's. The result is stored in bfloat16, as it is shipped.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cairn.lifecycle.conversations import reply_of
from cairn.lifecycle.corpus import CORPUS_HELD_OUT, CORPUS_TRAIN
from cairn.lifecycle.hardware import result_config
from cairn.lifecycle.recipe import Recipe
from cairn.lifecycle.stage import Stage, StageContext
from cairn.registry import Artifact

if TYPE_CHECKING:
    from cairn.data import PackedDataset, Tokenizer

Example = tuple[NDArray[np.int64], NDArray[np.bool_], int]


def _config(recipe: Recipe, recipe_path: Path) -> dict[str, Any]:
    return {"replay_share": recipe.instructions.replay_share, "training": result_config(recipe.sft)}


def _run(context: StageContext) -> Artifact:
    from cairn.data import Tokenizer
    from cairn.lifecycle.train import save_trained, train
    from cairn.models import load_decoder
    from cairn.training import SupervisedFineTuning

    base, instructions, shards = (context.inputs[name] for name in ("pretrain", "instructions", "pack"))
    tokenizer = Tokenizer.load(base.folder)
    dataset = _packed(
        context, tokenizer, instructions.folder / CORPUS_TRAIN, "sft-train", shards.folder / "train"
    )
    validation = _packed(context, tokenizer, instructions.folder / CORPUS_HELD_OUT, "sft-validation", None)
    model = load_decoder(base.folder)
    result = train(
        context,
        model,
        context.recipe.sft,
        dataset=dataset,
        validation=validation,
        objective=SupervisedFineTuning(),
    )
    return save_trained(
        context,
        model,
        tokenizer,
        result,
        stage="chat",
        parents=[base.digest, instructions.digest, shards.digest],
        dtype="bfloat16",
    )


def _packed(
    context: StageContext, tokenizer: "Tokenizer", path: Path, name: str, replay: Path | None
) -> "PackedDataset":
    """Conversations (and replayed passages) as masked shards in the run's folder; kept for a resumed run."""
    from cairn.data import PackedDataset, write_shards

    folder = context.folder / name
    if not (folder / "index.json").exists():
        write_shards(_examples(context, tokenizer, path, replay), folder, vocab_size=tokenizer.vocab_size)
    return PackedDataset.open(folder)


def _examples(
    context: StageContext, tokenizer: "Tokenizer", path: Path, replay: Path | None
) -> Iterator[Example]:
    from cairn.data import read_conversations, render_for_training

    longest = context.recipe.model.context
    total = 0
    for conversation in read_conversations(path):
        example = render_for_training(tokenizer, conversation.messages, conversation.tools)
        # A cut conversation would teach the model not to end its turn.
        if len(example.input_ids) <= longest:
            total += len(example.input_ids)
            yield example.input_ids, example.loss_mask, len(reply_of(conversation).encode())
    share = context.recipe.instructions.replay_share
    if replay is not None and share:
        yield from _replayed(replay, round(total * share / (1 - share)), longest, context.recipe.sft.seed)


def _replayed(shards: Path, tokens: int, length: int, seed: int) -> Iterator[Example]:
    """About `tokens` tokens of training text, in pieces of one context, every token learned."""
    from cairn.data import PackedDataset

    dataset = PackedDataset.open(shards)
    for step in range(tokens // length):
        batch = dataset.batch(step, tokens=length, seed=seed + 1, max_document=length)
        for start, end in zip(batch.cu_seqlens[:-1], batch.cu_seqlens[1:], strict=True):
            ids = batch.input_ids[start:end]
            if len(ids) > 1:
                yield ids, np.ones(len(ids), dtype=np.bool_), 0


STAGE = Stage(name="sft", version=1, needs=("pretrain", "instructions", "pack"), config=_config, run=_run)
