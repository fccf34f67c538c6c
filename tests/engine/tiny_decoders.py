"""Small random decoders of several families, and a runner that keeps every distribution it computed."""

import functools
from pathlib import Path
from typing import Any

import torch

from cairn.engine.rounded_weights import RoundedFormat
from cairn.engine.runner import Logits, ModelInput
from cairn.engine.torch_runner import TorchRunner
from cairn.models import Decoder, DecoderConfig, PackedAttention

VOCAB = 101
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "eos_token_id": None,
    "bos_token_id": None,
    "pad_token_id": None,
}
_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "tie_word_embeddings": True},
    "mistral": {"model_type": "mistral", "sliding_window": 20, "tie_word_embeddings": False},
    "gemma2": {
        "model_type": "gemma2",
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": 20,
        "query_pre_attn_scalar": 8,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 10.0,
        "tie_word_embeddings": True,
    },
    "mixtral": {
        "model_type": "mixtral",
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": None,
        "tie_word_embeddings": False,
    },
}
FAMILIES = tuple(_FAMILIES)


@functools.cache
def tiny_decoder(family: str) -> Decoder:
    """A random decoder whose output depends strongly on its whole input."""
    model = Decoder(DecoderConfig.from_hf(_COMMON | _FAMILIES[family]))
    model.init_weights(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "embedding" not in name:
                parameter.mul_(6)
    return model.eval().requires_grad_(False)


def naive_greedy(model: Decoder, prompt: tuple[int, ...], num: int) -> list[int]:
    """Greedy continuation, everything computed again for every token."""
    token_ids = list(prompt)
    for _ in range(num):
        token_ids.append(int(naive_scores(model, token_ids)[-1].argmax()))
    return token_ids[len(prompt) :]


@torch.inference_mode()
def naive_scores(model: Decoder, token_ids: list[int]) -> torch.Tensor:
    """Logits [T, vocab] of every token, without a cache."""
    num = len(token_ids)
    return model.logits(model(torch.tensor(token_ids), torch.arange(num), PackedAttention([0, num])))


def transformers_greedy(folder: Path, prompt: tuple[int, ...], num: int) -> list[int]:
    """What transformers' generate continues with, from a saved checkpoint."""
    from transformers import AutoModelForCausalLM

    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    model: Any = AutoModelForCausalLM.from_pretrained(folder, **options)
    output = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=num,
        min_new_tokens=num,
        do_sample=False,
    )
    return [int(token_id) for token_id in output[0, len(prompt) :]]


class RecordingRunner(TorchRunner):
    """Keeps the bits of the logits of every sampled row, by request, choice and position."""

    def __init__(
        self, model: Decoder, *, tiled: bool | None = None, weights: RoundedFormat | None = None
    ) -> None:
        super().__init__(model, tiled=tiled, weights=weights)
        self.bits: dict[tuple[str, int, int], bytes] = {}

    @property
    def can_launch(self) -> bool:
        """Never: what is launched shows its tokens only."""
        return False

    def run(self, model_input: ModelInput) -> Logits:
        logits = super().run(model_input)
        for i, row in enumerate(model_input.logit_rows):
            if row.is_sampled:
                key = (row.seq.request.request_id, row.seq.index, row.position)
                self.bits[key] = logits.select([i]).tobytes()
        return logits
