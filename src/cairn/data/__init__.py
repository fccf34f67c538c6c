"""data: from named sources to token ids in memory-mapped shards, with everything in between.

Sources with pinned digests and licences, streaming readers, cleaning and filters that report what they
dropped, tokenizers, chat templates with exact loss masks, and packing. Nothing here needs torch.
"""

from cairn.data.chat_template import DEFAULT_TEMPLATE, ChatTemplate
from cairn.data.cleaning import CleanConfig, clean_text
from cairn.data.conversation import TrainingExample, encode_chat, end_of_turn_id, render_for_training
from cairn.data.conversation_rows import read_conversations, write_conversations
from cairn.data.conversations import Conversation, load_conversations, read_instructions
from cairn.data.corpus import clean_to_file, document_examples
from cairn.data.datasets import (
    DatasetSpec,
    LocalDataset,
    dataset_table,
    find_dataset,
    get_dataset,
    local_dataset,
    verify_dataset,
)
from cairn.data.decontamination import EvaluationIndex
from cairn.data.documents import Document, Source
from cairn.data.markdown import plain_text
from cairn.data.packing import Batch, PackedDataset
from cairn.data.pipeline import PipelineConfig, PipelineReport, run_pipeline
from cairn.data.readers import ReadConfig, ReadReport, read_documents
from cairn.data.rows import split_rows, write_rows
from cairn.data.shards import ShardIndex, write_shards
from cairn.data.texts import evaluation_texts, load_documents
from cairn.data.tokenizer import Tokenizer, check_fits

__all__ = [
    "DEFAULT_TEMPLATE",
    "Batch",
    "ChatTemplate",
    "CleanConfig",
    "Conversation",
    "DatasetSpec",
    "Document",
    "EvaluationIndex",
    "LocalDataset",
    "PackedDataset",
    "PipelineConfig",
    "PipelineReport",
    "ReadConfig",
    "ReadReport",
    "ShardIndex",
    "Source",
    "Tokenizer",
    "TrainingExample",
    "check_fits",
    "clean_text",
    "clean_to_file",
    "dataset_table",
    "document_examples",
    "encode_chat",
    "end_of_turn_id",
    "evaluation_texts",
    "find_dataset",
    "get_dataset",
    "load_conversations",
    "load_documents",
    "local_dataset",
    "plain_text",
    "read_conversations",
    "read_documents",
    "read_instructions",
    "render_for_training",
    "run_pipeline",
    "split_rows",
    "verify_dataset",
    "write_conversations",
    "write_rows",
    "write_shards",
]
