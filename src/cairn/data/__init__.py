"""data: from named sources to token ids in memory-mapped shards, with everything in between.

Sources with pinned digests and licences, streaming readers, cleaning and filters that report what they
dropped, tokenizers, chat templates with exact loss masks, and packing. Nothing here needs torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

_HOMES = {
    "Batch": "packing",
    "ChatTemplate": "chat_template",
    "CleanConfig": "cleaning",
    "Conversation": "conversations",
    "DEFAULT_TEMPLATE": "chat_template",
    "DatasetSpec": "datasets",
    "Document": "documents",
    "EvaluationIndex": "decontamination",
    "LocalDataset": "datasets",
    "PackedDataset": "packing",
    "PipelineConfig": "pipeline",
    "PipelineReport": "pipeline",
    "ReadConfig": "readers",
    "ReadReport": "readers",
    "ShardIndex": "shards",
    "Source": "documents",
    "Tokenizer": "tokenizer",
    "TrainingExample": "conversation",
    "check_fits": "tokenizer",
    "clean_text": "cleaning",
    "clean_to_file": "corpus",
    "dataset_table": "datasets",
    "document_examples": "corpus",
    "encode_chat": "conversation",
    "end_of_turn_id": "conversation",
    "evaluation_texts": "texts",
    "find_dataset": "datasets",
    "get_dataset": "datasets",
    "load_conversations": "conversations",
    "load_documents": "texts",
    "local_dataset": "datasets",
    "plain_text": "markdown",
    "read_conversations": "conversation_rows",
    "read_documents": "readers",
    "read_instructions": "conversations",
    "render_for_training": "conversation",
    "run_pipeline": "pipeline",
    "split_rows": "rows",
    "verify_dataset": "datasets",
    "write_conversations": "conversation_rows",
    "write_rows": "rows",
    "write_shards": "shards",
}

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


def __getattr__(name: str) -> Any:
    """The public names, imported when asked for: a server needs a tokenizer and no pipeline."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
