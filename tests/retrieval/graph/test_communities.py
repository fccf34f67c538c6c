"""Communities are written from passages that the same people may see, and shown to these alone."""

from collections.abc import Sequence

import pytest
from sqlalchemy import select

from cairn.core.chat import Principal
from cairn.registry import Registry
from cairn.retrieval.collection import Collection
from cairn.retrieval.graph.tables import CommunityChunkRow, CommunityRow
from cairn.retrieval.graph.writing import list_communities, write_communities
from tests.retrieval.conftest import ANN, BOB, document

OPEN = [
    "Zacharias Quill met Ada Byron in Porto Nuevo.",
    "In Porto Nuevo lived Ada Byron with Zacharias Quill and a dog.",
    "A letter of Ada Byron to Zacharias Quill tells of Porto Nuevo at length.",
]
RAIN = " Rain fell on the roof. Nobody was there."  # what goes together must not stand everywhere
CLOSED = [text.replace("Ada Byron", "Mary Anning").replace("Porto Nuevo", "Lyme Regis") for text in OPEN]


def fill(collection: Collection) -> None:
    for number, text in enumerate(OPEN):
        collection.put(document(f"open {number}.md", text + RAIN, ["everyone"]))
    for number, text in enumerate(CLOSED):
        collection.put(document(f"closed {number}.md", text + RAIN, ["user:ann"]))
    collection.graph.update()


def rows(registry: Registry) -> tuple[int, int]:
    with registry.database.session(read_only=True) as session:
        return len(session.scalars(select(CommunityRow)).all()), len(
            session.execute(select(CommunityChunkRow.chunk_id)).all()
        )


def test_a_community_is_of_passages_with_the_same_labels(collection: Collection) -> None:
    fill(collection)
    assert write_communities(collection).num_written == 2
    [mine, everybody] = sorted(list_communities(collection, ANN), key=lambda each: "everyone" in each.labels)
    assert set(mine.names) >= {"Mary Anning", "Lyme Regis"}
    assert mine.labels == ("user:ann",)
    assert set(everybody.names) >= {"Ada Byron", "Porto Nuevo"}
    assert everybody.summary in OPEN
    assert not set(mine.chunk_ids) & set(everybody.chunk_ids)
    for reader in (BOB, Principal("eve")):
        assert list_communities(collection, reader) == [everybody]
    assert list_communities(collection, Principal("")) == [everybody]


def test_what_is_the_same_is_not_written_again(collection: Collection) -> None:
    fill(collection)
    write_communities(collection)
    before = list_communities(collection, None)
    again = write_communities(collection)
    assert (again.num_written, again.num_kept, again.num_removed) == (0, 2, 0)
    assert list_communities(collection, None) == before


@pytest.mark.parametrize("change", ["relabel", "delete", "replace", "rename"])
def test_it_goes_with_the_first_passage_that_changes(
    collection: Collection, registry: Registry, change: str
) -> None:
    fill(collection)
    write_communities(collection)
    info = next(info for info in collection.documents(ANN) if info.source == "open 0.md")
    if change == "relabel":
        collection.relabel([info.document_id], ["user:ann"])
    elif change == "delete":
        collection.delete([info.document_id])
    elif change == "replace":
        collection.put(document("open 0.md", "Nothing of it.", ["everyone"]))
    else:
        collection.rename(info.document_id, "other.md")
    assert rows(registry)[0] == 1
    assert [each.labels for each in list_communities(collection, None)] == [("user:ann",)]
    collection.graph.update()
    write_communities(collection)
    for each in list_communities(collection, BOB):
        assert info.document_id not in each.summary
        assert each.labels == ("everyone",)
    collection.delete([each.document_id for each in collection.documents(ANN)])
    assert rows(registry) == (0, 0)


def test_labels_that_changed_behind_its_back_close_it(collection: Collection, registry: Registry) -> None:
    fill(collection)
    write_communities(collection)
    from cairn.retrieval.tables import DocumentRow

    with registry.database.writing() as session:  # as no function of the collection would
        row = session.scalars(select(DocumentRow).where(DocumentRow.source == "open 1.md")).one()
        row.labels = ["user:ann"]
    assert list_communities(collection, BOB) == []


def test_a_model_writes_where_there_is_one(collection: Collection) -> None:
    fill(collection)
    asked: list[Sequence[str]] = []

    def summarise(names: Sequence[str], passages: Sequence[str], _ids: Sequence[int]) -> str:
        asked.append(passages)
        return f"About {names[0]}." if "Ada Byron" in names else ""

    assert write_communities(collection, writer="mason", summarise=summarise).num_written == 2
    found = {each.labels: each for each in list_communities(collection, None)}
    assert (found["everyone",].writer, found["everyone",].summary[:6]) == ("mason", "About ")
    assert found["user:ann",].writer == "statistics"  # it had nothing to say
    assert sorted(map(len, asked)) == [3, 3]
    assert not any("Anning" in text and "Byron" in text for texts in asked for text in texts)
