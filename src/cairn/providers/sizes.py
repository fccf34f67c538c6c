"""How much memory a model will take, told from its files before anything is loaded."""

from dataclasses import dataclass

_CACHE_SHARE = 0.5
"""Of what is left beside the weights, the part that one model's key-value cache takes at most; the rest is
for the models to come. A full context comes first."""


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of the weights, and of a key-value cache: the least it needs, a full context, all it can use."""

    weights: int
    least_cache: int = 0
    full_cache: int = 0
    most_cache: int = 0

    @property
    def least(self) -> int:
        """Less is refused."""
        return self.weights + self.least_cache

    @property
    def wanted(self) -> int:
        """Worth sending idle ones away for: the weights and one full context."""
        return self.weights + self.full_cache

    def cache(self, left: int) -> int:
        """What the cache gets where so many bytes are left for weights and cache."""
        left -= self.weights
        return min(self.most_cache, left, max(self.full_cache, int(left * _CACHE_SHARE)))

    @property
    def parts(self) -> str:
        """The least in words."""
        cache = f", key-value cache {gigabytes(self.least_cache)}" if self.least_cache else ""
        return f"weights {gigabytes(self.weights)}{cache}"


def gigabytes(num_bytes: int) -> str:
    """`1.25 GB`, `12 MB`."""
    if num_bytes >= 1_000_000_000:
        return f"{num_bytes / 1e9:.2f} GB"
    return f"{num_bytes / 1e6:.0f} MB" if num_bytes >= 1_000_000 else f"{num_bytes:,} bytes"
