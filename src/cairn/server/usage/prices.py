"""What tokens cost: `prices.toml` in Cairn's home, read again when it changes.

Local models may have a price too. Nothing costs anything where the file is silent.
"""

import logging
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from pydantic import Field

from cairn.core import Config, load_config
from cairn.core.chat import Usage
from cairn.core.errors import CairnError

logger = logging.getLogger("cairn.server")

MICRO = 1_000_000
"""Parts of a unit of money that amounts are counted in; also the tokens that a price is for."""
ANY = "*"


class PriceConfig(Config):
    """What a million tokens of a model cost."""

    prompt: Decimal = Field(default=Decimal(0), ge=0, description="price of a million tokens that are read")
    cached: Decimal | None = Field(
        default=None, ge=0, description="of those that the prefix cache knew; empty: the same as `prompt`"
    )
    completion: Decimal = Field(
        default=Decimal(0), ge=0, description="price of a million tokens that are written"
    )


class PricesConfig(Config):
    """`prices.toml`: what models cost."""

    currency: str = Field(
        default="USD", pattern="^[A-Z]{3}$", description="three letters, as ISO 4217 has them"
    )
    models: dict[str, PriceConfig] = Field(
        default={}, description="prices by the name of a model; `*`: those of all others"
    )


@dataclass(frozen=True, slots=True)
class Tariff:
    """The price of one model, in millionths of the currency's unit for a million tokens."""

    currency: str = "USD"
    prompt: int = 0
    cached: int = 0
    completion: int = 0

    def cost(self, usage: Usage) -> int:
        """What tokens cost in millionths, rounded up, so that many small requests are not free."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        parts = (
            (usage.prompt_tokens - cached) * self.prompt
            + cached * self.cached
            + usage.completion_tokens * self.completion
        )
        return -(-parts // MICRO)


class Prices:
    """The prices of a file, as it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._tariffs: dict[str, Tariff] = {}
        self._free = Tariff()
        self._read(self._stamp_now())

    def of(self, *names: str) -> Tariff:
        """The price of the first of these names that has one."""
        for name in (*names, ANY):
            if (found := self._tariffs.get(name)) is not None:
                return found
        return self._free

    @property
    def currency(self) -> str:
        """What money is counted in."""
        return self._free.currency

    @property
    def is_current(self) -> bool:
        """Whether the file is as it was read."""
        return self._stamp_now() == self._stamp

    def refresh(self) -> None:
        """Read the file again if it has changed; what is wrong in it is logged, and the old prices hold."""
        stamp = self._stamp_now()
        if stamp != self._stamp:
            try:
                self._read(stamp)
            except CairnError as error:
                self._stamp = stamp
                logger.error("the prices stay as they were: %s", error.sentence)

    def _stamp_now(self) -> tuple[int, int] | None:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_size

    def _read(self, stamp: tuple[int, int] | None) -> None:
        config = PricesConfig() if stamp is None else load_config(PricesConfig, self._path)
        self._free = Tariff(config.currency)
        self._tariffs = {name: _tariff(config.currency, each) for name, each in config.models.items()}
        self._stamp = stamp


def _tariff(currency: str, price: PriceConfig) -> Tariff:
    cached = price.prompt if price.cached is None else price.cached
    return Tariff(currency, *(int(each * MICRO) for each in (price.prompt, cached, price.completion)))
