"""A model that writes readable nonsense without being trained: which word follows which, as weights.

The embedding is the identity and the layers add nothing, so the output head alone decides: it holds the
logarithms of a table of successors (a Markov chain). Sampled, it tells short tales and ends them;
greedy, it walks in a circle until it is stopped. Everything around the weights is real.
"""

import math
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import torch

from cairn.core.digests import canonical_json
from cairn.data import Tokenizer
from cairn.models import Decoder, DecoderConfig, save_decoder

CONTEXT = 16_384
TALES = (
    "Once there was a fox. The fox was afraid of the dark. The dark was wide and the night was long.",
    "One day the fox went to the hill. The hill had a house of stones, and in the house there was a light.",
    "The old man had a light. The light was small, but the night was afraid of the light.",
    "Once the old man said to the fox: the stones mark the way. The fox went home and slept well.",
)
_NEVER = -50.0


def write_tiny_model(folder: Path, *, seed: int = 0) -> None:
    """Write the files of a one-layer Llama that continues any conversation with a tale."""
    tokenizer = Tokenizer.train(TALES * 20, vocab_size=420)
    end = tokenizer.token_id("<|im_end|>")
    assert end is not None
    config = _config(tokenizer.vocab_size, end)
    model = Decoder(config)
    model.init_weights(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("attention.output.weight", "mlp.output.weight")):
                weight.zero_()
        model.embedding.copy_(torch.eye(config.vocab_size, config.hidden_size))
        assert model.head is not None
        # The last norm scales the one hot entry to the root of its size.
        model.head.weight.copy_(_successors(tokenizer, config, end) / math.sqrt(config.hidden_size))
    tokenizer.save(folder)
    save_decoder(model, folder)
    ends = [end, tokenizer.eos_token_id]
    (folder / "generation_config.json").write_bytes(canonical_json({"eos_token_id": ends}))


def _successors(tokenizer: Tokenizer, config: DecoderConfig, end: int) -> torch.Tensor:
    """Scores [vocab, hidden]: column i holds what may follow token i."""
    counts: dict[int, Counter[int]] = defaultdict(Counter)
    start = tokenizer.encode("\n")[-1]
    for tale in TALES:
        for before, after in pairwise([start, *tokenizer.encode(tale), end]):
            counts[before][after] += 1
    scores = torch.full((config.vocab_size, config.hidden_size), _NEVER)
    for token_before, successors in counts.items():
        for token_id, count in successors.items():
            # Full stops lead on a little more often than the tales say, so that greedy replies never end.
            scores[token_id, token_before] = math.log(count) - (1.0 if token_id == end else 0.0)
    return scores


def _config(vocab_size: int, end: int) -> DecoderConfig:
    return DecoderConfig.from_hf(
        {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": vocab_size,
            "hidden_size": 8 * math.ceil(vocab_size / 8),
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-9,
            "tie_word_embeddings": False,
            "eos_token_id": end,
        }
    )
