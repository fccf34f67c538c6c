"""A machine that tries to see what it may not: by search, context, chunk view, lists, and old hits."""

import tempfile
import threading
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from cairn.core import CairnError, Settings
from cairn.core.chat import Principal
from cairn.core.retrieval import Hit
from cairn.registry import Registry
from cairn.retrieval.access import labels_of
from cairn.retrieval.catalogue import create_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.context import build_context
from cairn.retrieval.following import Indexes
from cairn.retrieval.index_folder import IndexFolder
from cairn.retrieval.search import Depth, SearchOptions, find
from tests.retrieval.conftest import document
from tests.retrieval.exact import ExactIndexes, encoders

READERS = [
    Principal("ann", frozenset({"makers"})),
    Principal("bob", frozenset({"makers", "readers"})),
    Principal("makers"),  # a user who is called like a group
    Principal("eve"),
    Principal("", frozenset({""})),
]
LABELS = ["user:ann", "user:bob", "user:makers", "group:makers", "group:readers", "group:ann", "everyone"]
SECRETS = [f"secret{n}" for n in range(4)]

labels = st.lists(st.sampled_from(LABELS), max_size=3, unique=True)
readers = st.sampled_from(READERS)
depths = st.sampled_from(list[Depth](["lexical", "dense", "fused"]))
sources = st.sampled_from(["a.md", "b.md", "c.md"])
holders = st.integers(0, 1)


class Leaks(RuleBasedStateMachine):
    """What each document says and who may see it is kept beside, in plain dictionaries."""

    hits = Bundle("hits")

    @initialize(everyone=st.booleans())
    def start(self, everyone: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.registry = Registry.open(Settings(home=Path(self.folder.name)))
        self.default = ["everyone"] if everyone else []
        create_collection(self.registry, "notes", owner="ann", labels=self.default)
        kept: list[Indexes] = [ExactIndexes(), IndexFolder(Path(self.folder.name) / "indexes")]
        self.open = [Collection.open(self.registry, "notes", encoders(), indexes) for indexes in kept]
        self.ids: dict[str, str] = {}
        self.allowed: dict[str, list[str]] = {}
        self.texts: dict[str, str] = {}
        self.number = 0

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            for each in self.open:
                each.close()
            self.registry.close()
            self.folder.cleanup()

    def may_see(self, source: str, reader: Principal) -> bool:
        return not labels_of(reader).isdisjoint(self.allowed[source])

    def visible(self, reader: Principal) -> set[str]:
        return {source for source in self.allowed if self.may_see(source, reader)}

    @rule(source=sources, secret=st.sampled_from(SECRETS), allowed=st.none() | labels, holder=holders)
    def put(self, source: str, secret: str, allowed: list[str] | None, holder: int) -> None:
        self.number += 1
        text = f"# Common\n\n{secret} of {source} version{self.number}\n\n# Rest\n\ncommon rest {self.number}"
        info = self.open[holder].put(document(source, text, allowed))
        before = self.allowed.get(source, self.default)
        self.ids[source], self.texts[source] = info.document_id, text
        self.allowed[source] = before if allowed is None else allowed

    @rule(source=sources, allowed=labels, holder=holders)
    def relabel(self, source: str, allowed: list[str], holder: int) -> None:
        if source in self.ids:
            self.open[holder].relabel([self.ids[source]], allowed)
            self.allowed[source] = allowed

    @rule(source=sources, to=sources, holder=holders)
    def rename(self, source: str, to: str, holder: int) -> None:
        if source in self.ids and to not in self.ids:
            self.ids[to] = self.open[holder].rename(self.ids.pop(source), to)
            self.allowed[to], self.texts[to] = self.allowed.pop(source), self.texts.pop(source)

    @rule(source=sources, holder=holders)
    def delete(self, source: str, holder: int) -> None:
        if source in self.ids:
            self.open[holder].delete([self.ids.pop(source)])
            del self.allowed[source], self.texts[source]

    @rule(
        target=hits,
        reader=readers,
        query=st.sampled_from([*SECRETS, "common"]),
        depth=depths,
        holder=holders,
    )
    def search(self, reader: Principal, query: str, depth: Depth, holder: int) -> list[Hit]:
        found = find(self.open[holder], query, reader, SearchOptions(limit=50, depth=depth))
        for hit in found:
            assert self.may_see(hit.passage.name, reader)
            assert hit.passage.text in self.texts[hit.passage.name]
        if depth != "lexical":  # and nothing that is open is kept back
            assert {hit.passage.name for hit in found} == self.visible(reader)
        return found

    @rule(found=consumes(hits), reader=readers, holder=holders)
    def context_of_old_hits(self, found: list[Hit], reader: Principal, holder: int) -> None:
        context = build_context(self.open[holder], found, reader, budget=10_000, count=len)
        for source in context.sources:
            assert self.may_see(source.passage.name, reader)
            assert source.passage.text in self.texts[source.passage.name]

    @rule(source=sources, reader=readers, holder=holders)
    def look_at_chunks(self, source: str, reader: Principal, holder: int) -> None:
        if source not in self.ids:
            return
        try:
            chunks = self.open[holder].chunks(self.ids[source], reader)
            self.open[holder].parsed(self.ids[source], reader)
        except CairnError:
            assert not self.may_see(source, reader)
        else:
            assert self.may_see(source, reader)
            assert all(chunk.text in self.texts[source] for chunk in chunks)

    @invariant()
    def lists_are_honest(self) -> None:
        if hasattr(self, "registry"):
            for reader in READERS:
                listed = {info.source for info in self.open[0].documents(reader)}
                assert listed == self.visible(reader)


TestLeaks = Leaks.TestCase
TestLeaks.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)


def test_nothing_leaks_while_labels_change(collection: Collection) -> None:
    """One thread closes and opens a document; a search begun while it is closed to eve never returns it."""
    info = collection.put(document("a.md", "The secret canoe.", []))
    collection.put(document("b.md", "The open canoe.", ["everyone"]))
    eve, stop = Principal("eve"), threading.Event()
    failures: list[str] = []

    def churn() -> None:
        # To ann, never to eve: whatever the moment, eve must not see it.
        while not stop.is_set():
            for allowed in (["user:ann"], [], ["group:makers"]):
                collection.relabel([info.document_id], allowed)

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(60):
            found = [hit.passage.name for hit in find(collection, "secret canoe", eve, SearchOptions())]
            if found != ["b.md"]:
                failures.append(str(found))
    finally:
        stop.set()
        thread.join()
    assert not failures
