"""evaluate: bits per byte beside xz and Kneser-Ney, template following, repetition, samples.

Everything is measured on the weights as they ship (bfloat16, computed in float32 on a CPU), on
text and instructions that no stage trained on. Baselines get the same training text.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cairn.core.chat import Message, SamplingParams, text_message
from cairn.data import (
    Conversation,
    PackedDataset,
    Tokenizer,
    encode_chat,
    end_of_turn_id,
    read_conversations,
)
from cairn.evaluation import KneserNey, Reply, diversity, template_following, xz_bits_per_byte
from cairn.lifecycle.conversations import prompt_of, reply_of
from cairn.lifecycle.corpus import CORPUS_HELD_OUT, CORPUS_TRAIN, read_corpus, read_texts, token_documents
from cairn.lifecycle.generation import generate
from cairn.lifecycle.recipe import EvaluateStage, Recipe
from cairn.lifecycle.stage import Stage, StageContext
from cairn.registry import Artifact

if TYPE_CHECKING:
    from cairn.models import Decoder

SCORES = "scores.json"
SAMPLES = "samples.json"


def _config(recipe: Recipe, recipe_path: Path) -> dict[str, Any]:
    return recipe.evaluate.model_dump(mode="json")


def _run(context: StageContext) -> Artifact:
    from cairn.lifecycle.hardware import torch_device
    from cairn.models import load_decoder

    names = ("data", "pack", "pretrain", "instructions", "sft")
    corpus, shards, base, instructions, chat = (context.inputs[name] for name in names)
    tokenizer = Tokenizer.load(chat.folder)
    texts = held_out_texts(corpus.folder / CORPUS_HELD_OUT, context.recipe.evaluate)
    device = torch_device()
    chat_model = load_decoder(chat.folder, device=device)
    scores = {
        "held_out": {"documents": len(texts), "bytes": sum(len(text.encode()) for text in texts)},
        "bits_per_byte": {
            "chat": _model_score(context, chat_model, tokenizer, texts, "chat"),
            "base": _model_score(context, load_decoder(base.folder, device=device), tokenizer, texts, "base"),
            **_baselines(context, tokenizer, corpus.folder / CORPUS_TRAIN, shards.folder / "train", texts),
        },
    }
    replies, following = _answers(context, chat_model, tokenizer, instructions.folder / CORPUS_HELD_OUT)
    scores["template_following"] = asdict(following)
    samples = _samples(context, chat_model, load_decoder(base.folder, device=device), tokenizer)
    scores["diversity"] = asdict(diversity([sample["reply"] for sample in (*samples["chat"], *replies)]))
    return _store(
        context,
        scores,
        {**samples, "held_out_instructions": replies},
        [corpus, shards, base, instructions, chat],
    )


def held_out_texts(path: Path, config: EvaluateStage) -> list[str]:
    """Held-out documents of the chosen sources, up to the chosen number of bytes."""
    texts: list[str] = []
    left = config.max_held_out_bytes or None
    for document in read_corpus(path):
        if config.sources and document.metadata["source"] not in config.sources:
            continue
        text = document.text if left is None else document.text.encode()[:left].decode(errors="ignore")
        left = None if left is None else left - len(text.encode())
        texts += [text] if text else []
    return texts


def score_model(model: "Decoder", tokenizer: Tokenizer, texts: Sequence[str], progress: Any = None) -> float:
    """Bits per byte of texts under a model, read in its full context."""
    from cairn.evaluation.scoring import score_documents

    assert tokenizer.eos_token_id is not None
    return score_documents(
        model,
        token_documents(texts, tokenizer),
        num_bytes=sum(len(text.encode()) for text in texts),
        start_token_id=tokenizer.eos_token_id,
        context=model.config.max_position,
        progress=progress,
    ).bits_per_byte


def _model_score(
    context: StageContext, model: "Decoder", tokenizer: Tokenizer, texts: list[str], name: str
) -> float:
    context.progress.say(f"evaluate: held-out text under the {name} model")
    return round(score_model(model, tokenizer, texts, context.progress), 4)


def _baselines(
    context: StageContext, tokenizer: Tokenizer, train_text: Path, train_shards: Path, texts: list[str]
) -> dict[str, float]:
    with context.progress.task("baselines", 2) as task:
        held_out = "\n".join(texts).encode()
        xz = xz_bits_per_byte(held_out, "\n".join(read_texts(train_text)).encode())
        task.advance()
        kneser_ney = kneser_ney_score(tokenizer, train_shards, texts, context.recipe.evaluate.ngram_order)
        task.advance()
    return {
        "xz": round(xz.plain, 4),
        "xz_after_training_text": round(xz.conditional, 4),
        "kneser_ney": round(kneser_ney, 4),
    }


def kneser_ney_score(tokenizer: Tokenizer, train_shards: Path, texts: Sequence[str], order: int) -> float:
    """Bits per byte of texts under a Kneser-Ney model of all training tokens."""
    assert tokenizer.eos_token_id is not None
    dataset = PackedDataset.open(train_shards)
    stream = np.concatenate([batch.input_ids for batch in dataset.sequential(1 << 20)])
    model = KneserNey.fit(
        stream, vocab_size=tokenizer.vocab_size, separator=tokenizer.eos_token_id, order=order
    )
    held_out = np.concatenate(token_documents(texts, tokenizer))
    return float(-model.log2_probabilities(held_out).sum()) / sum(len(text.encode()) for text in texts)


def _answers(
    context: StageContext, model: "Decoder", tokenizer: Tokenizer, path: Path
) -> tuple[list[dict[str, str]], Any]:
    """Greedy replies to an even sample of the held-out instructions."""
    config = context.recipe.evaluate
    found = list(read_conversations(path))
    count = min(config.num_instructions, len(found))
    found = [found[place * len(found) // count] for place in range(count)]
    sampling = SamplingParams(temperature=0, max_tokens=config.max_reply_tokens)
    replies = _chat(context, model, tokenizer, found, sampling, "answering")
    following = template_following(
        [Reply(prompt_of(each), reply) for each, reply in zip(found, replies, strict=True)],
        tokenizer,
        end_tokens(tokenizer),
    )
    shown = [
        {"prompt": prompt_of(each), "reply": _text(tokenizer, reply), "expected": reply_of(each)}
        for each, reply in zip(found, replies, strict=True)
    ]
    return shown, following


def _samples(
    context: StageContext, chat: "Decoder", base: "Decoder", tokenizer: Tokenizer
) -> dict[str, list[dict[str, str]]]:
    config = context.recipe.evaluate
    sampling = SamplingParams(
        temperature=config.temperature, top_p=0.95, max_tokens=config.max_reply_tokens, seed=config.seed
    )
    asked = [Conversation((text_message("user", prompt),)) for prompt in config.prompts]
    replies = _chat(context, chat, tokenizer, asked, sampling, "samples")
    beginnings = [[tokenizer.eos_token_id or 0, *tokenizer.encode(text)] for text in config.beginnings]
    texts = generate(
        base,
        beginnings,
        sampling,
        eos_token_ids=end_tokens(tokenizer),
        progress=context.progress,
        label="continuations",
    )
    return {
        "chat": [
            {"prompt": prompt, "reply": _text(tokenizer, reply)}
            for prompt, reply in zip(config.prompts, replies, strict=True)
        ],
        "base": [
            {"prompt": beginning, "reply": _text(tokenizer, reply)}
            for beginning, reply in zip(config.beginnings, texts, strict=True)
        ],
    }


def _chat(
    context: StageContext,
    model: "Decoder",
    tokenizer: Tokenizer,
    conversations: Sequence[Conversation],
    sampling: SamplingParams,
    label: str,
) -> list[tuple[int, ...]]:
    encoded = [encode_chat(tokenizer, _question(each), each.tools) for each in conversations]
    # A prompt that fills the context leaves nothing to say; its end is kept, as a person would see it cut.
    longest = model.config.max_position - 16
    return generate(
        model,
        [ids[-longest:] for ids in encoded],
        sampling,
        eos_token_ids=end_tokens(tokenizer),
        progress=context.progress,
        label=label,
    )


def _question(conversation: Conversation) -> tuple[Message, ...]:
    """The turns before the last reply."""
    last = conversation.messages[-1]
    return conversation.messages[:-1] if last.role == "assistant" else conversation.messages


def end_tokens(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The ids that end a reply: the chat template's end of turn, and the end of text."""
    assert tokenizer.eos_token_id is not None
    return tuple(dict.fromkeys((end_of_turn_id(tokenizer), tokenizer.eos_token_id)))


def _text(tokenizer: Tokenizer, reply: tuple[int, ...]) -> str:
    return tokenizer.decode(list(reply), skip_special=True).strip()


def _store(
    context: StageContext, scores: dict[str, Any], samples: dict[str, Any], inputs: Sequence[Artifact]
) -> Artifact:
    metadata = {"recipe": context.recipe.name, **scores}
    parents = [artifact.digest for artifact in inputs]
    with context.registry.create(
        "scores", parents=parents, metadata=metadata, run_id=context.run_id
    ) as writer:
        for name, value in ((SCORES, scores), (SAMPLES, samples)):
            (writer.folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False))
    return writer.artifact


STAGE = Stage(
    name="evaluate",
    version=1,
    needs=("data", "pack", "pretrain", "instructions", "sft"),
    config=_config,
    run=_run,
)
