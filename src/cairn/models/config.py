"""The decoder's config: the record of `architecture`, from and to a config.json.

`from_hf` derives it from a `config.json` of the Hugging Face layout (the forms of transformers 4 and 5),
`to_hf` writes one that transformers opens.
"""

from collections.abc import Mapping
from typing import Any, Self

from cairn.models import families
from cairn.models.architecture import Architecture, require


class DecoderConfig(Architecture):
    """A decoder-only transformer of a family that can be read and written."""

    __slots__ = ()

    def __post_init__(self) -> None:
        require(self.family in families.FAMILIES, f"the family is {self.family!r}, which has no table")
        super().__post_init__()

    @classmethod
    def from_hf(cls, values: Mapping[str, Any]) -> Self:
        """From the content of a config.json; `UnsupportedModelError` for what Cairn does not run."""
        return cls(**families.read_config(values))

    def to_hf(self) -> dict[str, Any]:
        """The content of a config.json that transformers (5 and late 4) opens."""
        return families.write_config(self)
