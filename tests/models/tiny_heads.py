"""Heads on a small random encoder."""

from pathlib import Path

import numpy as np
import torch

from cairn.core.digests import digest_file
from cairn.models.adapted_encoder import AdaptedEncoder, adaptable_encoder, save_head
from cairn.models.encoder_heads import BASE_WEIGHTS, HeadSpec, HeadTask
from tests.models.tiny_encoders import VOCAB


def tiny_head(base: Path, target: Path, task: HeadTask, **values: float) -> AdaptedEncoder:
    """A head with random changes of a base's matrices, saved in `target`; the network it was saved from."""
    model = adaptable_encoder(base, task, rank=4, alpha=8.0, max_tokens=64, seed=1)
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape))
            if name.endswith((".a", ".b")):
                # What is written is rounded; so is what it is compared with.
                parameter.copy_(parameter.bfloat16().float())
    spec = HeadSpec(
        task=task, base="tiny", base_digest=digest_file(base / BASE_WEIGHTS), max_tokens=64, values=values
    )
    target.mkdir(exist_ok=True)
    weights = np.linspace(0.5, 4.0, VOCAB, dtype=np.float32).astype(np.float16).astype(np.float32)
    save_head(model, spec, target, token_weights=None if task == "reading" else weights)
    return model.eval()
