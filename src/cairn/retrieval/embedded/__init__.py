"""The index that needs nothing beside it: vectors and words, in this process's memory and one file."""

from cairn.retrieval.embedded.store import EmbeddedIndex

__all__ = ["EmbeddedIndex"]
