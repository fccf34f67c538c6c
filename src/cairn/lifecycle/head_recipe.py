"""The recipe of a head: which encoder it adapts, to what, and from which questions about passages."""

from typing import Literal

from pydantic import Field

from cairn.core import Config
from cairn.lifecycle.recipe import ReleaseStage
from cairn.training import TrainConfig


class HeadStage(Config):
    """What is trained."""

    task: Literal["reading", "reranking"] = Field(
        description="reading: find the answer in a passage; reranking: tell how well a passage answers"
    )
    base: Literal["all-minilm-l6-v2"] = Field(
        default="all-minilm-l6-v2", description="encoder that it adapts, the packaged one"
    )
    rank: int = Field(default=16, ge=1, le=256, description="rank of the changes of each matrix")
    alpha: float = Field(default=32.0, gt=0, description="the changes are scaled by alpha / rank")
    max_tokens: int = Field(default=256, ge=32, le=512, description="longest text it reads, in tokens")


class QuestionSource(Config):
    """Questions about passages from a named data set."""

    dataset: str = Field(description="name of a data set (`cairn data ls`)")
    limit: int = Field(default=0, ge=0, description="use this many, spread over the set; 0: all")
    repeat: int = Field(default=1, ge=1, description="times each is shown in an epoch")
    clozes: int = Field(
        default=0,
        ge=0,
        description="most questions made from each passage alone, a phrase of it asked for",
    )

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.dataset


class ExamplesStage(Config):
    """Questions and passages, cut to what is learned from."""

    sources: list[QuestionSource] = Field(min_length=1, description="where the questions come from")
    passage_tokens: int = Field(
        default=128,
        ge=16,
        description="longest part of a passage, in tokens",
    )
    question_tokens: int = Field(default=48, ge=8, description="longest question, in tokens")
    negatives: float = Field(
        default=0.25,
        ge=0,
        description="reading: questions shown also with a passage that does not answer them, as a share; "
        "reranking: passages near the right one that each query is shown with",
    )
    held_back: float = Field(
        default=0.08,
        gt=0,
        lt=0.5,
        description="share of each source's articles kept back to validate and calibrate on",
    )
    seed: int = Field(default=0, ge=0, description="seed of the cuts and of the negatives")


class JudgeStage(Config):
    """Calibration on what was kept back, and scores on what is held out."""

    num_calibration: int = Field(default=400, ge=20, description="most questions to calibrate on")
    num_questions: int = Field(
        default=0, ge=0, description="held-out questions of each data set to score on; 0: all"
    )
    sources: list[str] = Field(min_length=1, description="data sets whose held-out part is scored")


class HeadRecipe(Config):
    """The recipe of a head on an encoder."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._-]*$", description="name of the recipe, in runs and reports"
    )
    description: str = Field(default="", description="one line on what it makes")
    seed: int = Field(default=0, ge=0, description="seed of the initial weights")
    head: HeadStage = Field(description="what is trained")
    examples: ExamplesStage = Field(description="what it is trained on")
    train: TrainConfig = Field(description="training")
    judge: JudgeStage = Field(description="calibration and scores")
    release: ReleaseStage = Field(description="name of the finished head")
