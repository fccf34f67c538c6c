"""What is closed to a reader moves nothing he is shown: the same as if it had never been there.

A collection changes at random, and beside it what it should hold. Each reader's search is held against one in
a new collection of the visible documents alone, passage by passage and to the last bit of every score.
"""

import tempfile
from itertools import count
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from cairn.core import Settings
from cairn.core.chat import Principal
from cairn.registry import Registry
from cairn.retrieval.access import labels_of
from cairn.retrieval.catalogue import create_collection, delete_collection
from cairn.retrieval.collection import Collection
from cairn.retrieval.graph.listing import list_entities
from cairn.retrieval.search import SearchOptions, find
from tests.retrieval.conftest import document
from tests.retrieval.exact import ExactIndexes, encoders

READERS = [Principal("ann", frozenset({"makers"})), Principal("bob"), Principal("eve")]
LABELS = ["user:ann", "user:bob", "group:makers", "everyone"]
SENTENCES = [
    "We saw Zacharias Quill in Porto.",
    "The Zonal Query Registry (ZQR) is in Porto.",
    "The ZQR hired Ada Byron and Zacharias Quill.",
    "Quill met Byron at the registry.",
    "A registry holds queries; the porto was sweet.",
    "Nobody knows Ada Byron.",
    "Zebra Quota Rules (ZQR) hold for Ada Byron.",
]
QUESTIONS = ["Who is Zacharias Quill?", "Where is the ZQR?", "Is Byron at the registry?"]

labels = st.lists(st.sampled_from(LABELS), max_size=2, unique=True)
texts = st.lists(st.sampled_from(SENTENCES), min_size=1, max_size=3, unique=True).map(" ".join)
sources = st.sampled_from(["a.md", "b.md", "c.md", "d.md", "e.md"])


class NothingIsCarriedOver(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.registry = Registry.open(Settings(home=Path(self.folder.name)))
        self.numbers = count()
        self.collection = self.new("whole")
        self.held: dict[str, tuple[str, list[str], str]] = {}

    def new(self, name: str) -> Collection:
        create_collection(self.registry, name, owner="ann")
        return Collection.open(self.registry, name, encoders(), ExactIndexes())

    def teardown(self) -> None:
        if hasattr(self, "registry"):
            self.collection.close()
            self.registry.close()
            self.folder.cleanup()

    @rule(source=sources, text=texts, allowed=labels)
    def put(self, source: str, text: str, allowed: list[str]) -> None:
        info = self.collection.put(document(source, text, allowed))
        self.held.pop(source, None)  # what is put anew comes last
        self.held[source] = (text, allowed, info.document_id)

    @rule(source=sources, allowed=labels)
    def relabel(self, source: str, allowed: list[str]) -> None:
        if source in self.held:
            text, _, own_id = self.held[source]
            self.collection.relabel([own_id], allowed)
            self.held[source] = (text, allowed, own_id)

    @rule(source=sources)
    def delete(self, source: str) -> None:
        if source in self.held:
            self.collection.delete([self.held.pop(source)[2]])

    @rule(reader=st.sampled_from(READERS), question=st.sampled_from(QUESTIONS))
    def look(self, reader: Principal, question: str) -> None:
        mine = labels_of(reader)
        twin = self.new(f"twin {next(self.numbers)}")
        for source, (text, allowed, _) in self.held.items():
            if not mine.isdisjoint(allowed):
                twin.put(document(source, text, allowed))
        whole, alone = (self.seen(each, reader, question) for each in (self.collection, twin))
        assert whole == alone
        delete_collection(self.registry, twin.info.name, twin.indexes)

    @staticmethod
    def seen(collection: Collection, reader: Principal, question: str) -> object:
        hits = find(collection, question, reader, SearchOptions(limit=50, graph=True))
        found = [(hit.passage.name, hit.passage.text, hit.score, dict(hit.stages)) for hit in hits]
        return found, list_entities(collection, reader)


TestNothingIsCarriedOver = NothingIsCarriedOver.TestCase
TestNothingIsCarriedOver.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
