"""Folders: made, renamed, filled, and taken away without what lay in them."""

from sqlalchemy import select

from cairn.server.tables import ConversationRow
from tests.server.conftest import Running
from tests.server.conversations.talks import begin


def test_folders_from_beginning_to_end(server: Running) -> None:
    client = server.http()
    kept, _ = begin(client, "kept", "x")
    other, _ = begin(client, "other", "x")
    folder = client.post("/api/folders", json={"name": "  Boats "}).json()
    client.post("/api/folders", json={"name": "anchors"})
    assert [each["name"] for each in client.get("/api/folders").json()] == ["anchors", "Boats"]
    before = client.get(f"/api/conversations/{kept}").json()["updated_at"]
    moved = client.patch(f"/api/conversations/{kept}", json={"folder_id": folder["folder_id"]}).json()
    assert (moved["folder_id"], moved["title"], moved["updated_at"]) == (folder["folder_id"], "kept", before)
    renamed = client.patch(f"/api/folders/{folder['folder_id']}", json={"name": "Ships"}).json()
    assert renamed["name"] == "Ships"
    client.patch(f"/api/conversations/{kept}", json={"title": "still there"})
    listed = {row["id"]: row["folder_id"] for row in client.get("/api/conversations").json()}
    assert listed == {kept: folder["folder_id"], other: None}

    assert client.delete(f"/api/folders/{folder['folder_id']}").status_code == 204
    assert {row["folder_id"] for row in client.get("/api/conversations").json()} == {None}
    back = client.post("/api/folders", json={"name": "Ships", "conversation_ids": [kept]}).json()
    listed = {row["id"]: row["folder_id"] for row in client.get("/api/conversations").json()}
    assert listed == {kept: back["folder_id"], other: None}
    client.patch(f"/api/conversations/{kept}", json={"folder_id": None})
    assert {row["folder_id"] for row in client.get("/api/conversations").json()} == {None}


def test_nothing_goes_into_a_folder_of_somebody_else(server: Running) -> None:
    mine, theirs = server.http(), server.http(server.state.identity.create_key("mallory"))
    folder = theirs.post("/api/folders", json={"name": "theirs"}).json()["folder_id"]
    conversation, _ = begin(mine, "mine", "x")
    assert mine.patch(f"/api/conversations/{conversation}", json={"folder_id": folder}).status_code == 404
    taken = theirs.post("/api/folders", json={"name": "taken", "conversation_ids": [conversation]})
    assert taken.status_code == 404
    assert [each["name"] for each in theirs.get("/api/folders").json()] == ["theirs"]
    assert mine.get("/api/folders").json() == []


def test_those_in_folders_are_listed_however_old(server: Running) -> None:
    client = server.http()
    old, _ = begin(client, "old", "x")
    client.post("/api/folders", json={"name": "kept", "conversation_ids": [old]})
    with server.state.registry.database.session() as session, session.begin():
        model = session.scalars(select(ConversationRow)).one()
        for number in range(501):
            values = {"id": f"conv_{number}", "updated_at": model.updated_at + 1 + number, "folder_id": None}
            same = {each: getattr(model, each) for each in ("user_id", "title", "model", "created_at")}
            session.add(ConversationRow(**values, **same, deleted_at=None, indexed_at=None))
    listed = [row["id"] for row in client.get("/api/conversations").json()]
    assert len(listed) == 501
    assert old in listed
    assert "conv_0" not in listed
