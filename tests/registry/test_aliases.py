"""Names: where they point, who may move them, what is remembered."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from cairn.core import ConflictError, InvalidRequestError, NotFoundError, Settings
from cairn.registry import Registry
from tests.registry.conftest import Make


def test_moves_and_history(registry: Registry, make: Make) -> None:
    one, two = make("one").digest, make("two").digest
    registry.set_alias("m", one, actor="ann")
    moved = registry.set_alias("m", two, actor="bob")
    registry.set_alias("m", two, actor="eve")  # already there: no move
    registry.remove_alias("m", actor="ann")
    assert registry.aliases() == []
    moves = registry.alias_history("m", "latest")
    assert [(m.previous, m.digest, m.actor) for m in moves] == [
        (None, one, "ann"),
        (one, two, "bob"),
        (two, None, "ann"),
    ]
    assert moves[1].moved_at == moved.updated_at
    assert [(e.action, e.actor, e.subject) for e in registry.audit.entries()] == [
        ("alias.move", "ann", "m:latest"),
        ("alias.move", "bob", "m:latest"),
        ("alias.remove", "ann", "m:latest"),
    ]


def test_a_prefix_or_name_may_stand_for_the_digest(registry: Registry, make: Make) -> None:
    digest = make().digest
    assert registry.set_alias("m", digest[7:20]).digest == digest
    assert registry.set_alias("m", "m", alias="production").digest == digest
    assert [each.full_name for each in registry.aliases()] == ["m:latest", "m:production"]
    assert registry.aliases("other") == []


def test_compare_and_set(registry: Registry, make: Make) -> None:
    one, two = make("one").digest, make("two").digest
    registry.set_alias("m", one, expected=None)
    with pytest.raises(ConflictError, match="expected nothing"):
        registry.set_alias("m", two, expected=None)
    with pytest.raises(ConflictError, match="points to"):
        registry.set_alias("m", two, expected=two)
    registry.set_alias("m", two, expected=one)
    assert registry.aliases()[0].digest == two


@pytest.mark.parametrize("name", ["", "a:b", "../up", "a b", "sha256", "deadbeef", "0" * 64, "-x", "ü"])
def test_bad_names(registry: Registry, make: Make, name: str) -> None:
    artifact = make()
    with pytest.raises(InvalidRequestError, match="allowed"):
        registry.set_alias(name, artifact.digest)
    with pytest.raises(InvalidRequestError, match="allowed"):
        registry.set_alias("fine", artifact.digest, alias=name)


def test_unknown_alias_or_digest(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="no alias m:latest"):
        registry.remove_alias("m")
    with pytest.raises(NotFoundError, match="no artifact has the digest"):
        registry.set_alias("m", "sha256:" + "0" * 64)
    assert registry.aliases() == []


def test_concurrent_first_movers_agree_on_one(settings: Settings, registry: Registry, make: Make) -> None:
    digests = [make(str(i)).digest for i in range(6)]

    def move(digest: str) -> bool:
        with Registry.open(settings) as mine:
            try:
                mine.set_alias("m", digest, expected=None)
            except ConflictError:
                return False
            return True

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(move, digests))
    assert won.count(True) == 1
    assert registry.get("m").digest == digests[won.index(True)]
    assert len(registry.alias_history("m")) == 1


def test_concurrent_moves_make_one_unbroken_history(registry: Registry, make: Make) -> None:
    digests = [make(str(i)).digest for i in range(4)]

    def move(number: int) -> None:
        registry.set_alias("m", digests[number % 4])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(move, range(20)))
    moves = registry.alias_history("m")
    assert [m.previous for m in moves] == [None, *(m.digest for m in moves[:-1])]
    assert registry.aliases()[0].digest == moves[-1].digest
    assert registry.audit.verify() == len(moves)
