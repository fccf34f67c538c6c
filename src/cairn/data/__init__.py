"""data: from named sources to token ids in memory-mapped shards, with everything in between.

Sources with pinned digests and licences, streaming readers, cleaning and filters that report what they
dropped, tokenizers, chat templates with exact loss masks, and packing. Nothing here needs torch.
"""

from cairn.data.chat_template import DEFAULT_TEMPLATE, ChatTemplate
from cairn.data.conversation import TrainingExample, encode_chat, end_of_turn_id, render_for_training
from cairn.data.packing import Batch, PackedDataset
from cairn.data.shards import ShardIndex, write_shards
from cairn.data.tokenizer import Tokenizer, check_fits

__all__ = [
    "DEFAULT_TEMPLATE",
    "Batch",
    "ChatTemplate",
    "PackedDataset",
    "ShardIndex",
    "Tokenizer",
    "TrainingExample",
    "check_fits",
    "encode_chat",
    "end_of_turn_id",
    "render_for_training",
    "write_shards",
]
