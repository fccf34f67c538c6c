"""An encoder as data: the network of the BERT family, and what becomes of its last layer.

Read from a checkpoint folder: config.json (bert, roberta, xlm-roberta, camembert, distilbert) and, where the
folder is one of sentence-transformers, its modules. What is not computed is refused, not ignored: relative
positions, decoders, other pooling. Masked-language-model heads are left out. No torch is needed.
"""

from dataclasses import dataclass
from typing import Literal

from cairn.compute.shape import ModelShape
from cairn.models.architecture import require

Pooling = Literal["tokens", "first", "mean", "max"]
HeadActivation = Literal["none", "tanh", "relu"]
Task = Literal["embedding", "classification", "token_classification"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderHead:
    """From the rows of the last layer to a text's vector: pooling, then each step that is there."""

    task: Task
    pooling: Pooling
    """`tokens`: none, a row a token; `first`: the row of the first token."""
    dense: int = 0
    """Outputs of a dense layer; 0: none."""
    dense_bias: bool = True
    dense_folder: str = ""
    """Where sentence-transformers keeps that layer; empty: with the other weights."""
    activation: HeadActivation = "none"
    """After the dense layer."""
    labels: tuple[str, ...] = ()
    """What the last linear layer tells apart; empty: there is none."""
    scores: Literal["none", "softmax", "sigmoid"] = "none"
    """What turns the outputs for the labels into scores."""
    normalise: bool = False
    """The vector has length one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """An encoder transformer with norms after its residual sums. Sizes in numbers of units, never bytes."""

    family: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    num_positions: int
    """Rows of the position table."""
    position_offset: int = 0
    """Row of a text's first token: RoBERTa's table begins with rows that no token uses."""
    num_types: int = 2
    """Kinds of segments that are told apart; 0: none."""
    norm_eps: float = 1e-12
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"] = "gelu"
    head: EncoderHead
    max_tokens: int
    """Longest text, its special tokens included."""
    prompt: str = ""
    """What is put before every text."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, allowed: above 0")
        require(
            self.hidden_size % self.num_heads == 0,
            f"the hidden size {self.hidden_size} is no multiple of {self.num_heads} heads",
        )
        longest = self.num_positions - self.position_offset
        require(
            0 < self.max_tokens <= longest,
            f"texts of {self.max_tokens} tokens, there are {longest} positions",
        )

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def out_width(self) -> int:
        """Numbers of a result."""
        return len(self.head.labels) or self.head.dense or self.hidden_size

    @property
    def max_position(self) -> int:
        """Longest text, as decoders call it."""
        return self.max_tokens

    def shape(self) -> ModelShape:
        """What a token costs in the layers, for planning; the embedding is only looked up."""
        return ModelShape(
            vocab_size=0,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_heads,
            head_dim=self.head_dim,
            intermediate_size=self.intermediate_size,
            gated_mlp=False,
            exact_params=self.num_params,
        )

    @property
    def num_params(self) -> int:
        """All weights, the head's included."""
        hidden, width, head = self.hidden_size, self.intermediate_size, self.head
        total = (self.vocab_size + self.num_positions + self.num_types + 2) * hidden
        total += self.num_layers * (4 * hidden * hidden + 9 * hidden + 2 * hidden * width + width)
        total += head.dense * (hidden + head.dense_bias)
        return total + len(head.labels) * ((head.dense or hidden) + 1)
