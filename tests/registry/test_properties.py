"""A random walk over the registry beside a model in plain dictionaries."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from cairn.core import ConflictError, NotFoundError, Settings
from cairn.registry import Registry
from tests.registry.conftest import make_artifact

NAMES = st.sampled_from(["a", "b"])
ALIASES = st.sampled_from(["latest", "production"])


class RegistryMachine(RuleBasedStateMachine):
    """`parents`, `names`, `moves` and `running` are what the registry should hold."""

    digests = Bundle("digests")
    run_ids = Bundle("run_ids")

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="cairn-test-"))
        self.registry = Registry.open(Settings(home=self.home))
        self.parents: dict[str, set[str]] = {}
        self.names: dict[tuple[str, str], str] = {}
        self.moves: dict[tuple[str, str], list[str | None]] = {}
        self.running: dict[str, set[str]] = {}
        self.num_made = 0

    def teardown(self) -> None:
        self.registry.close()
        shutil.rmtree(self.home)

    @rule(target=digests, parents=st.lists(digests, max_size=3))
    def make(self, parents: list[str]) -> str:
        here = [digest for digest in parents if digest in self.parents]
        self.num_made += 1
        artifact = make_artifact(self.registry, str(self.num_made), parents=here)
        self.parents[artifact.digest] = set(here)
        return artifact.digest

    @rule(name=NAMES, alias=ALIASES, digest=digests)
    def move(self, name: str, alias: str, digest: str) -> None:
        if digest not in self.parents:
            with pytest.raises(NotFoundError):
                self.registry.set_alias(name, digest, alias=alias)
            return
        self.registry.set_alias(name, digest, alias=alias)
        self._moved((name, alias), digest)

    @rule(name=NAMES, alias=ALIASES, digest=digests, expected=digests | st.none())
    def compare_and_set(self, name: str, alias: str, digest: str, expected: str | None) -> None:
        if digest not in self.parents:
            return
        if self.names.get((name, alias)) != expected:
            with pytest.raises(ConflictError):
                self.registry.set_alias(name, digest, alias=alias, expected=expected)
            return
        self.registry.set_alias(name, digest, alias=alias, expected=expected)
        self._moved((name, alias), digest)

    @rule(name=NAMES, alias=ALIASES)
    def unname(self, name: str, alias: str) -> None:
        if (name, alias) not in self.names:
            with pytest.raises(NotFoundError):
                self.registry.remove_alias(name, alias)
            return
        self.registry.remove_alias(name, alias)
        del self.names[name, alias]
        self.moves[name, alias].append(None)

    @rule(target=run_ids, inputs=st.lists(digests, max_size=2))
    def start(self, inputs: list[str]) -> str:
        here = [digest for digest in inputs if digest in self.parents]
        run = self.registry.start_run(recipe="r", inputs=here)
        self.running[run.run_id] = set(here)
        return run.run_id

    @rule(run_id=consumes(run_ids))
    def finish(self, run_id: str) -> None:
        if run_id in self.running:
            self.registry.finish_run(run_id, status="succeeded")
            del self.running[run_id]
        else:
            with pytest.raises(ConflictError, match="ended already"):
                self.registry.finish_run(run_id, status="succeeded")

    @rule(digest=digests)
    def remove(self, digest: str) -> None:
        if digest not in self.parents:
            return
        is_needed = (
            digest in self.names.values()
            or any(digest in parents for parents in self.parents.values())
            or any(digest in inputs for inputs in self.running.values())
        )
        if is_needed:
            with pytest.raises(ConflictError):
                self.registry.remove(digest)
        else:
            self.registry.remove(digest)
            del self.parents[digest]

    @rule()
    def collect(self) -> None:
        needed = self._ancestors({*self.names.values()}.union(*self.running.values()))
        gone = {artifact.digest for artifact in self.registry.gc(grace_seconds=-1)}
        assert gone == self.parents.keys() - needed
        self.parents = {digest: parents for digest, parents in self.parents.items() if digest in needed}

    @rule(target=digests)
    def reopen(self) -> object:
        """Close and open: runs that were not finished end as interrupted."""
        self.registry.close()
        self.registry = Registry.open(Settings(home=self.home))
        for run_id in self.running:
            assert self.registry.run(run_id).status == "interrupted"
        self.running = {}
        return multiple()

    @invariant()
    def names_point_where_they_should(self) -> None:
        found = {(each.name, each.alias): each.digest for each in self.registry.aliases()}
        assert found == self.names

    @invariant()
    def the_catalogue_is_what_lies_on_disk(self) -> None:
        assert {artifact.digest for artifact in self.registry.artifacts()} == self.parents.keys()
        assert set(self.registry.store.digests()) == self.parents.keys()

    @rule(digest=digests)
    def lineage(self, digest: str) -> None:
        if digest not in self.parents:
            return
        found = self.registry.lineage(digest)
        below = {each for each in self.parents if digest in self._ancestors({each})}
        wanted = self._ancestors({digest}) | below
        assert {node.digest for node in found.nodes} == wanted
        assert set(found.edges) == {
            (parent, child) for child in wanted for parent in self.parents[child] if parent in wanted
        }
        assert found.missing == ()

    @rule()
    def history(self) -> None:
        for (name, alias), wanted in self.moves.items():
            assert [move.digest for move in self.registry.alias_history(name, alias)] == wanted
        self.registry.audit.verify()

    def _moved(self, key: tuple[str, str], digest: str) -> None:
        if self.names.get(key) != digest:
            self.names[key] = digest
            self.moves.setdefault(key, []).append(digest)

    def _ancestors(self, roots: set[str]) -> set[str]:
        found: set[str] = set()
        todo = list(roots)
        while todo:
            digest = todo.pop()
            found.add(digest)
            todo.extend(self.parents.get(digest, ()))
        return found & self.parents.keys()


RegistryMachine.TestCase.settings = hypothesis_settings(
    max_examples=10, stateful_step_count=30, deadline=None, derandomize=True
)
TestRegistry = RegistryMachine.TestCase
