"""In which order a route's targets are asked: pure, from what is known at that moment.

Weighted choice and affinity are one thing, weighted rendezvous hashing (Thaler and Ravishankar 1998; weights
as by Schindelhauer and Schomaker 2005): every target draws a number from a key, and the highest is first. The
key is the conversation's beginning, or chance. When a target comes or goes, only its own conversations move.
"""

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from cairn.core.chat import Message
from cairn.server.routing.config import RouteConfig, TargetConfig

_UNIT = 2.0**-64
_SPILL = 1.25
"""A conversation's own target may have this times its share of what is under way, before the next one gets
it (consistent hashing with bounded loads, Mirrokni et al. 2016)."""
_ALWAYS_ROOM = 4
"""Requests under way that never send a conversation elsewhere: with so few, shares mean little."""


def draw(*parts: str) -> float:
    """A number above 0 and below 1 that only these texts decide."""
    digest = blake2b(digest_size=8)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return (int.from_bytes(digest.digest(), "big") + 0.5) * _UNIT


def beginning_of(messages: Sequence[Message]) -> str:
    """What stays the same while a conversation grows: all up to its first question."""
    for place, message in enumerate(messages):
        if message.role == "user":
            return "\n".join(f"{each.role}:{each.text}" for each in messages[: place + 1])
    return "\n".join(f"{each.role}:{each.text}" for each in messages)


def by_draw(targets: Sequence[TargetConfig], key: str) -> list[TargetConfig]:
    """Targets by the number each draws for a key, which its weight favours."""
    return sorted(targets, key=lambda target: target.weight / math.log(draw(key, target.name)))


def is_in_share(percent: float, *parts: str) -> bool:
    """Whether these texts are among so many of a hundred; who is in stays in when the share grows."""
    return draw(*parts) * 100 < percent


def order(
    route: RouteConfig, name: str, *, key: str, user: str, outstanding: Mapping[str, int]
) -> list[TargetConfig]:
    """Who is asked, first to last, when all are well. `key` is the conversation's beginning, or chance."""
    targets = list(route.targets)
    if route.strategy == "weighted":
        targets = by_draw(targets, key)
    elif route.strategy == "least_outstanding":
        targets = _least_busy(by_draw(targets, key), outstanding, has_affinity=route.affinity)
    canary = route.canary
    if canary is not None and is_in_share(canary.percent, name, "canary", user):
        rest = [target for target in targets if target.name != canary.target.name]
        return [canary.target, *rest]
    return targets


def _least_busy(
    targets: Sequence[TargetConfig], outstanding: Mapping[str, int], *, has_affinity: bool
) -> list[TargetConfig]:
    def load(target: TargetConfig) -> float:
        return outstanding.get(target.name, 0) / target.weight

    if not has_affinity:
        return sorted(targets, key=load)
    total = sum(outstanding.get(target.name, 0) for target in targets) + 1
    weights = sum(target.weight for target in targets)
    fair = {
        target.name: max(_ALWAYS_ROOM, math.ceil(_SPILL * total * target.weight / weights))
        for target in targets
    }
    # A stable sort: among those with room the conversation's order stays.
    return sorted(targets, key=lambda target: outstanding.get(target.name, 0) >= fair[target.name])
