"""Processes and threads that want the same thing at the same moment."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cairn.core import Settings
from cairn.registry import Registry
from tests.registry.conftest import PATIENCE, make_artifact, run_together

FORK = multiprocessing.get_context("fork")


def in_processes(settings: Settings, count: int, work: Callable[[Registry, int], None]) -> None:
    """Run `work` in `count` processes that start together; each must end well."""
    barrier = FORK.Barrier(count, timeout=PATIENCE)

    def child(number: int) -> None:
        with Registry.open(settings) as registry:
            barrier.wait()
            work(registry, number)

    processes = [FORK.Process(target=child, args=(number,)) for number in range(count)]
    run_together(processes)


def assert_sound(registry: Registry) -> None:
    assert list((registry.store.root / "tmp").iterdir()) == []
    assert registry.unregistered() == []
    for artifact in registry.artifacts():
        registry.verify(artifact.digest)


def test_the_same_artifact_from_two_processes(settings: Settings) -> None:
    Registry.open(settings).close()

    def work(registry: Registry, number: int) -> None:
        for i in range(10):
            parent = make_artifact(registry, f"parent {i}")
            make_artifact(registry, f"child {i}", parents=[parent.digest])

    in_processes(settings, 3, work)
    with Registry.open(settings) as registry:
        assert len(registry.artifacts()) == 20
        assert_sound(registry)


def test_the_same_artifact_from_many_threads(registry: Registry) -> None:
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda i: make_artifact(registry, f"text {i % 3}"), range(18)))
    assert len({artifact.digest for artifact in made}) == 3
    assert len(registry.artifacts()) == 3
    assert_sound(registry)


def test_collection_beside_makers(settings: Settings) -> None:
    """What is made and named while another process collects is never lost."""
    Registry.open(settings).close()

    def work(registry: Registry, number: int) -> None:
        for i in range(8):
            if number == 0:
                registry.gc(grace_seconds=60)
            else:
                artifact = make_artifact(registry, f"text {i}")
                registry.set_alias(f"name-{i}", artifact.digest, alias=f"by-{number}")
                registry.remove_alias(f"name-{i}", f"by-{number}")
                registry.verify(artifact.digest)

    in_processes(settings, 3, work)
    with Registry.open(settings) as registry:
        assert len(registry.artifacts()) == 8
        assert_sound(registry)
        assert registry.audit.verify() == 32
        assert len(registry.gc(grace_seconds=-1)) == 8
        assert_sound(registry)


def test_removal_beside_makers_of_the_same(settings: Settings) -> None:
    Registry.open(settings).close()

    def work(registry: Registry, number: int) -> None:
        for _ in range(10):
            if number == 0:
                registry.gc(grace_seconds=-1)
            else:
                make_artifact(registry, "the same")

    in_processes(settings, 3, work)
    with Registry.open(settings) as registry:
        assert_sound(registry)
        assert len(registry.artifacts()) <= 1
