"""examples: questions and passages of a head's recipe, cut to token ids, and what is kept back of them.

Of every source the last articles (policies, stories) are kept back: their examples validate the training, and
their questions, as text, calibrate the finished head. What the sets hold out is read for one end: a passage
that shares thirteen words in a row with it is left out, whichever set it is from.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cairn.core import ConfigError
from cairn.lifecycle.head_recipe import HeadRecipe, QuestionSource
from cairn.lifecycle.sources import source_config, store_source
from cairn.lifecycle.stage import Stage, StageContext
from cairn.registry import Artifact

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cairn.data import EvaluationIndex
    from cairn.data.examples import Example
    from cairn.data.questions import Question
    from cairn.data.span_encoder import Pieces

TRAIN, VALIDATION, KEPT_BACK = "train.npz", "validation.npz", "kept-back.jsonl"
TOKEN_WEIGHTS = "token-weights.npy"
_NEIGHBOURS = 12
"""Passages near the right one that negatives are drawn from."""


def _config(recipe: HeadRecipe, recipe_path: Path) -> dict[str, Any]:
    values = recipe.examples.model_dump(mode="json")
    sources = [source_config(source, recipe_path) for source in recipe.examples.sources]
    return {**values, "sources": sources, "task": recipe.head.task, "base": recipe.head.base}


def _run(context: StageContext[HeadRecipe]) -> Artifact:
    import numpy as np

    from cairn.data import EvaluationIndex, LocalDataset, find_dataset, write_rows
    from cairn.data.clozes import clozes
    from cairn.data.examples import ExampleSet
    from cairn.data.questions import load_questions

    config = context.recipe.examples
    train: list[Question] = []
    kept_back: list[Question] = []
    passages: dict[str, None] = {}
    raw, origins, counts, local = [], [], {}, {}
    for source in config.sources:
        artifact, origin = store_source(source, context)
        raw.append(artifact.digest)
        origins.append(origin.values)
        local[source.name] = LocalDataset(find_dataset(source.dataset), artifact.folder)
    held_out = EvaluationIndex(
        {name: (each.passage for each in load_questions(found, "held_out")) for name, found in local.items()}
    )
    for source in config.sources:
        questions = _clean(load_questions(local[source.name]), held_out)
        passages |= dict.fromkeys(each.passage for each in questions)
        told = {each.passage: each for each in questions}
        if context.recipe.head.task == "reading":
            questions = [each for each in questions if each.span]
        learned, kept = _split(_spread(questions, source), config.held_back)
        counts[source.name] = {"train": len(learned), "held_out": len(kept)}
        train += learned * source.repeat
        unseen = {each.group for each in kept}
        alone = [each for each in told.values() if each.group not in unseen]
        train += clozes(alone, source.clozes, random.Random(config.seed))
        kept_back += kept
    metadata = {"recipe": context.recipe.name, "sources": origins, "counts": counts}
    with context.registry.create("examples", parents=raw, metadata=metadata, run_id=context.run_id) as writer:
        maker = _Maker(context)
        ExampleSet.of(maker.make(train)).save(writer.folder / TRAIN)
        ExampleSet.of(maker.make(kept_back)).save(writer.folder / VALIDATION)
        np.save(writer.folder / TOKEN_WEIGHTS, maker.token_weights(list(passages)))
        write_rows((_row(each) for each in kept_back), writer.folder / KEPT_BACK)
    return writer.artifact


def _clean(questions: Sequence["Question"], held_out: "EvaluationIndex") -> list["Question"]:
    """Those whose passage holds nothing of what is held out."""
    from cairn.data.words import find_words

    clean = {each.passage: True for each in questions}
    for passage in clean:
        clean[passage] = not held_out.hits(find_words(passage.encode()))
    return [each for each in questions if clean[each.passage]]


def _spread(questions: Sequence["Question"], source: QuestionSource) -> Sequence["Question"]:
    """At most `limit`, evenly over the set."""
    if not source.limit or len(questions) <= source.limit:
        return questions
    return [questions[place * len(questions) // source.limit] for place in range(source.limit)]


def _split(questions: Sequence["Question"], share: float) -> tuple[list["Question"], list["Question"]]:
    """Questions to learn from, and those on the last articles."""
    groups = list(dict.fromkeys(each.group for each in questions))
    kept = set(groups[len(groups) - max(1, round(len(groups) * share)) :])
    if len(kept) == len(groups):
        raise ConfigError("a source has one article alone: nothing of it can be kept back")
    return [each for each in questions if each.group not in kept], [
        each for each in questions if each.group in kept
    ]


def _row(question: "Question") -> dict[str, Any]:
    return {
        "question": question.text,
        "passage": question.passage,
        "answers": list(question.answers),
        "group": question.group,
    }


class _Maker:
    """Turns questions into examples of the recipe's task."""

    def __init__(self, context: StageContext[HeadRecipe]) -> None:
        from cairn.data import Tokenizer
        from cairn.data.span_encoder import SpanEncoder

        self._config = context.recipe.examples
        self._is_reading = context.recipe.head.task == "reading"
        self._folder = base_folder(context)
        self._encoder: SpanEncoder = SpanEncoder(Tokenizer.load(self._folder))
        self._random = random.Random(self._config.seed)

    def make(self, questions: Sequence["Question"]) -> Iterator["Example"]:
        """Examples in the order of the questions."""
        passages = list(dict.fromkeys(each.passage for each in questions))
        numbers = {passage: number for number, passage in enumerate(passages)}
        read = self._encoder.pieces(passages)
        asked = self._encoder.pieces([each.text for each in questions])
        make = self._reading if self._is_reading else self._reranking
        yield from make(questions, asked, numbers, read)

    def _reading(
        self,
        questions: Sequence["Question"],
        asked: Sequence["Pieces"],
        numbers: Mapping[str, int],
        read: Sequence["Pieces"],
    ) -> Iterator["Example"]:
        by_group: dict[str, list[int]] = {}
        for each in questions:
            by_group.setdefault(each.group, []).append(numbers[each.passage])
        for question, pieces in zip(questions, asked, strict=True):
            own = numbers[question.passage]
            assert question.span is not None
            if example := self._answered(pieces, read[own], question.span):
                yield example
            if self._random.random() < self._config.negatives:
                # Half of them from the same article, which is harder.
                near = self._random.random() < 0.5
                other = self._random.choice(by_group[question.group] if near else range(len(read)))
                if other != own:
                    yield self._cut(pieces, read[other], None)

    def _answered(self, question: "Pieces", passage: "Pieces", span: tuple[int, int]) -> "Example | None":
        found = passage.tokens_of(*span)
        if found is None or found[1] - found[0] >= self._config.passage_tokens:
            return None
        return self._cut(question, passage, found)

    def _cut(self, question: "Pieces", passage: "Pieces", found: tuple[int, int] | None) -> "Example":
        """A part of the passage at a place of chance, but with the answer in it."""
        from cairn.data.examples import Example

        size, last = self._config.passage_tokens, max(0, len(passage.ids) - self._config.passage_tokens)
        lowest, highest = 0, last
        if found is not None:
            lowest, highest = max(0, found[1] - size + 1), min(found[0], last)
        first = self._random.randint(lowest, highest)
        window = self._encoder.window(self._short(question), passage, first, size)
        places = (0, 0) if found is None else tuple(place - first + window.context for place in found)
        return Example([(window.token_ids, window.types)], [window.context, *places])

    def _reranking(
        self,
        questions: Sequence["Question"],
        asked: Sequence["Pieces"],
        numbers: Mapping[str, int],
        read: Sequence["Pieces"],
    ) -> Iterator["Example"]:
        from cairn.data.examples import Example

        near = _neighbours(self._folder, list(numbers))
        for question, pieces in zip(questions, asked, strict=True):
            own = numbers[question.passage]
            others = self._random.sample(near[own], min(round(self._config.negatives), len(near[own])))
            texts = [self._short(pieces), *(read[place] for place in (own, *others))]
            longest = self._config.passage_tokens + 2
            encoded = [self._encoder.single(each, longest) for each in texts]
            yield Example([(ids, [0] * len(ids)) for ids in encoded], [own])

    def token_weights(self, passages: Sequence[str]) -> "NDArray[np.float32]":
        """[vocabulary]: how telling a token is, from how few passages hold it (BM25's formula)."""
        import numpy as np

        counts = np.zeros(self._encoder.vocab_size)
        for each in self._encoder.pieces(passages):
            counts[list(set(each.ids))] += 1
        return np.log1p((len(passages) - counts + 0.5) / (counts + 0.5)).astype(np.float32)

    def _short(self, question: "Pieces") -> "Pieces":
        from cairn.data.span_encoder import Pieces

        size = self._config.question_tokens
        return Pieces(question.ids[:size], question.offsets[:size])


def _neighbours(folder: Path, passages: Sequence[str]) -> list[list[int]]:
    """For each passage those whose vectors are nearest to its own, by the base itself."""
    import numpy as np

    from cairn.providers.encoder_loading import open_encoder
    from cairn.providers.encoders import LocalEmbedder

    embedder = open_encoder(folder)
    assert isinstance(embedder, LocalEmbedder), "a base embeds"
    vectors = embedder.embed(passages, truncate=True).vectors
    embedder.close()
    near = np.argsort(-(vectors @ vectors.T), axis=1, kind="stable")[:, : _NEIGHBOURS + 1]
    return [[int(place) for place in row if place != own] for own, row in enumerate(near)]


def base_folder(context: StageContext[HeadRecipe]) -> Path:
    """The checkpoint of the encoder that is adapted."""
    from cairn.providers.packaged_encoder import adopt_packaged_encoder

    adopt_packaged_encoder(context.registry)
    return context.registry.get(context.recipe.head.base).folder


STAGE = Stage(name="examples", version=2, needs=(), config=_config, run=_run)
