"""An upstream that does everything wrong, under load, before one that is well: fallback and accounting."""

from pathlib import Path

from cairn.core import Settings
from tests.providers.remote.upstream import FakeUpstream, hang, raw, speak, streamed, text_chunk, whole
from tests.server.faults.conftest import Load, Start, assert_counted, ledger, write_route

HI = [{"role": "user", "content": "hi"}]
WRONG = (
    hang,
    raw(b""),
    raw(b"nonsense\r\n\r\n"),
    whole(b"[" * 100_000),
    whole({"error": {"message": "broken"}}, 500),
    whole({"error": {"message": "slow down"}}, 429),
    streamed([], is_done=False, is_cut=True),
)
NEVER_OPEN = "[breaker]\nfailures = 1000000"


def test_whatever_it_does_another_answers_and_each_is_counted_once(up: Start, home: Path) -> None:
    bad, good = FakeUpstream(), FakeUpstream()
    try:
        bad.line = list(WRONG) * 4
        write_route(home, bad, good, more=NEVER_OPEN, seconds=5)
        server = up()
        load = Load(
            server, [{"model": "way", "messages": HI, "stream": number % 2 == 0} for number in range(6)]
        )
        try:
            load.wait_for(60)
            bad.line = list(WRONG) * 2
            load.wait_for(60)
        finally:
            answers = load.stop()
        server.stop()
    finally:
        bad.stop()
        good.stop()
    assert {(each.status, each.text) for each in answers} == {(200, "stones mark")}
    assert_counted(Settings(home=home), answers)


def test_what_was_said_before_a_break_is_counted(up: Start, home: Path, upstream: FakeUpstream) -> None:
    """Streams that break half-way end with an error, are not begun again, and cost what was said."""
    broken = streamed([text_chunk("half a "), text_chunk("stone")], is_done=False, is_cut=True)
    upstream.line = [broken, speak] * 10
    write_route(home, upstream, more=NEVER_OPEN)
    server = up()
    answers = [server.ask("way", stream=True) for _ in range(20)]
    server.stop()
    cut = [each for each in answers if each.code]
    assert len(cut) == 10
    assert {(each.text[:8], each.code) for each in cut} == {("provider", "upstream.unavailable")}
    settings = Settings(home=home)
    assert_counted(settings, answers)
    rows = {row.receipt_id: row for row in ledger(settings)}
    for each in cut:
        row = rows[each.receipt]
        assert (row.outcome, row.code, row.num_requests) == ("failed", "", 1)
        assert row.completion_tokens > 0
    assert len(rows) == 20
