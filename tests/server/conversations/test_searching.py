"""The search of conversations, on both databases: what is found, how it is shown, and what is not there."""

import threading

import pytest
from sqlalchemy import text

from cairn.registry import Registry
from cairn.server.conversations.indexing import bring_in
from tests.server.conftest import Running
from tests.server.conversations.talks import begin, say

LIGHT = "The old Lighthouse stands on the rocks; nobody has climbed its stairs since the war."


def found(server: Running, query: str, key: str | None = None, **params: int) -> list[tuple[str, str]]:
    """Titles and the words that are marked, of every hit."""
    answer = server.http(key).get("/api/conversations/search", params={"q": query, **params})
    assert answer.status_code == 200, answer.text
    return [
        (hit["title"], " ".join(piece["text"] for piece in hit["passage"] if piece["is_match"]))
        for hit in answer.json()["hits"]
    ]


def test_titles_and_messages_are_found_in_any_form(server: Running) -> None:
    client = server.http()
    conversation, (question, answer) = begin(client, "Towers by the sea", "Where to go?", LIGHT)
    begin(client, "Something else", "no word of it")
    assert found(server, "lighthouses") == [("Towers by the sea", "Lighthouse")]
    assert found(server, "LIGHTH") == [("Towers by the sea", "Lighthouse")]
    assert found(server, "climbing rock") == [("Towers by the sea", "rocks climbed")]
    assert found(server, "tower") == [("Towers by the sea", "Towers")]
    assert found(server, "lighthouse elephant") == []
    assert found(server, "  ?! ") == []
    (hit,) = client.get("/api/conversations/search", params={"q": "stairs"}).json()["hits"]
    assert (hit["conversation_id"], hit["message_id"], hit["role"]) == (conversation, answer, "assistant")
    (hit,) = client.get("/api/conversations/search", params={"q": "where"}).json()["hits"]
    assert (hit["message_id"], hit["role"]) == (question, "user")


@pytest.mark.parametrize(
    ("said", "query", "marked"),
    [
        ("Straße und Äpfel", "äpfel", "Äpfel"),
        ("нашёл маяк у моря", "мая", "маяк"),
        ("東京の灯台は古い", "灯台", "灯台"),
        ("don't go", "don't", "don't"),
        ("the value of x_1 is 42", "42", "42"),
        ('drop table "users"\'; -- & | ! :*', "users & drop | :*", "drop users"),
    ],
)
def test_words_of_every_script_are_found(server: Running, said: str, query: str, marked: str) -> None:
    begin(server.http(), "T", said)
    assert found(server, query) == [("T", marked)]


def test_a_long_message_is_shown_around_the_match(server: Running) -> None:
    begin(server.http(), "T", "stone " * 5000 + "needle " + "sand " * 5000)
    (hit,) = server.http().get("/api/conversations/search", params={"q": "needle"}).json()["hits"]
    shown = "".join(piece["text"] for piece in hit["passage"])
    assert len(shown) < 250
    assert shown.startswith("… ")
    assert "stone needle sand" in shown
    assert shown.endswith(" …")


def test_what_is_new_is_found_and_what_is_gone_is_not(server: Running, registry: Registry) -> None:
    client = server.http()
    conversation, turns = begin(client, "First title", "a harbour")
    assert found(server, "harbour") == [("First title", "harbour")]
    say(client, conversation, "assistant", "a beacon", turns[-1])
    assert found(server, "beacon") == [("First title", "beacon")]
    client.patch(f"/api/conversations/{conversation}", json={"title": "Second name"})
    assert found(server, "first") == []
    assert found(server, "second") == [("Second name", "Second")]
    client.delete(f"/api/conversations/{conversation}")
    assert found(server, "harbour") == []
    with registry.database.engine.connect() as connection:
        left = [
            connection.execute(text(f"SELECT count(*) FROM {table}")).scalar()
            for table in ("search_entries", "search_terms")
        ]
    assert left == [0, 0]
    client.post(f"/api/conversations/{conversation}/restore")
    assert found(server, "harbour") == [("Second name", "harbour")]


def test_the_newest_come_first_and_the_rest_on_later_pages(server: Running) -> None:
    client = server.http()
    for number in range(5):
        begin(client, f"T{number}", f"a gull, number {number}")
    titles = [title for title, _ in found(server, "gull")]
    assert titles == ["T4", "T3", "T2", "T1", "T0"]
    assert [title for title, _ in found(server, "gull", offset=2, limit=2)] == ["T2", "T1"]
    path = "/api/conversations/search?q=gull&limit="
    assert [client.get(f"{path}{limit}").json()["has_more"] for limit in (4, 5)] == [True, False]


def test_nobody_finds_what_another_said(server: Running) -> None:
    begin(server.http(), "secret plans", "the secret harbour")
    mallory = server.state.identity.create_key("mallory")
    assert found(server, "secret", mallory) == []
    begin(server.http(mallory), "mine", "no secret of mine")
    assert found(server, "secret", mallory) == [("mine", "secret")]
    assert len(found(server, "secret")) == 2


def test_messages_that_come_while_it_is_indexed_are_found(server: Running, registry: Registry) -> None:
    client = server.http()
    conversation, _ = begin(client, "T", "zero")
    is_over = threading.Event()

    def index() -> None:
        while not is_over.is_set():
            bring_in(registry.database, "admin")

    thread = threading.Thread(target=index)
    thread.start()
    words = [f"word{number}x" for number in range(30)]
    for word in words:
        say(client, conversation, "user", word)
    is_over.set()
    thread.join()
    assert [len(found(server, word)) for word in words] == [1] * len(words)
