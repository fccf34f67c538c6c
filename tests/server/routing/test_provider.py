"""A route at work, over providers that do as they are told: retries, fallback, cascade, shadow, counting."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cairn.core.chat import (
    ChatEvent,
    ChatRequest,
    ChoiceEnd,
    Principal,
    SamplingParams,
    StreamEnd,
    TextDelta,
    TokenLogprob,
    Usage,
    text_message,
)
from cairn.core.errors import (
    CairnError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
)
from cairn.providers.protocol import TextProvider
from cairn.providers.remote.errors import UpstreamOverloadedError, UpstreamUnavailableError
from cairn.registry import Receipt
from cairn.server.routing.plan import NoTargetError
from cairn.server.routing.provider import RECEIPT_HEADER, TARGET_HEADER, RoutedProvider
from cairn.server.routing.table import RouteTable
from cairn.server.state import Models

ASK = ChatRequest(
    model="r", messages=(text_message("user", "hello"),), request_id="rcpt_1", principal=Principal("ann")
)
PATIENCE = 60.0


def down() -> CairnError:
    return UpstreamUnavailableError("it is down")


@dataclass
class Told:
    """A provider that first fails with the errors in line, then says its name, letter by letter."""

    name: str
    errors: list[CairnError] = field(default_factory=list)
    breaks_after: int | None = None
    hangs_at: int | None = None
    logprob: float | None = None
    sampling_defaults: Mapping[str, Any] = field(default_factory=dict)
    asked: list[ChatRequest] = field(default_factory=list)
    num_open: int = 0
    context_length: int = 100

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        self.asked.append(request)
        self.num_open += 1
        try:
            await asyncio.sleep(0)
            if self.errors:
                raise self.errors.pop(0)
            for place, letter in enumerate(self.name):
                if place == self.hangs_at:
                    await asyncio.Event().wait()
                if place == self.breaks_after:
                    raise down()
                logprobs: tuple[TokenLogprob, ...] = ()
                if request.sampling.logprobs is not None and self.logprob is not None:
                    logprobs = (TokenLogprob(0, letter, letter.encode(), self.logprob),)
                yield TextDelta(0, letter, logprobs)
                await asyncio.sleep(0)
            yield ChoiceEnd(0, "stop")
            yield StreamEnd(Usage(1, 1), request.request_id)
        finally:
            self.num_open -= 1


class ToldModels:
    def __init__(self, *providers: Told) -> None:
        self.by_name = {each.name: each for each in providers}

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[TextProvider]:
        if name not in self.by_name:
            raise NotFoundError(f"no model {name!r}")
        yield cast("TextProvider", self.by_name[name])

    def loaded(self) -> list[TextProvider]:
        return [cast("TextProvider", each) for each in self.by_name.values()]


class Routed:
    """A route `r` over told providers."""

    def __init__(self, folder: Path, *providers: Told, extra: str = "", tables: str = "") -> None:
        targets = ", ".join(f'{{ model = "{each.name}" }}' for each in providers)
        path = folder / "routes.toml"
        path.write_text(f"[routes.r]\nbackoff_seconds = 0.001\ntargets = [{targets}]\n{extra}\n{tables}")

        async def save(receipt: Receipt) -> None:
            raise AssertionError(receipt)

        self.table = RouteTable(path, save)
        assert not self.table.problem
        self.models = cast("Models", ToldModels(*providers))

    def provider(self) -> RoutedProvider:
        route = self.table.route("r")
        assert route is not None
        return RoutedProvider(self.table, "r", route, self.models)

    async def ask(self, request: ChatRequest = ASK) -> str:
        """`text/target` of an answer."""
        text, target = "", ""
        async with aclosing(self.provider().stream(request)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    text += event.text
                elif isinstance(event, StreamEnd):
                    target = event.target
        return f"{text} by {target}"

    def outstanding(self) -> int:
        return sum(self.table.target(target.name).outstanding for target in self.table.targets_of("r"))


async def test_the_first_that_is_well_answers_and_is_named(tmp_path: Path) -> None:
    ann, bob = Told("ann"), Told("bob")
    routed = Routed(tmp_path, ann, bob)
    provider = routed.provider()
    provider.headers = headers = {"x-cairn-receipt": "rcpt_1"}
    async with aclosing(provider.stream(ASK)) as events:
        assert await anext(events) == TextDelta(0, "a")
        assert headers == {TARGET_HEADER: "local/ann", RECEIPT_HEADER: "rcpt_1"}
        assert routed.outstanding() == 1
        rest = [event async for event in events]
    assert rest[-1] == StreamEnd(Usage(1, 1), "rcpt_1", "local/ann")
    assert (len(ann.asked), len(bob.asked), routed.outstanding()) == (1, 0, 0)
    assert ann.asked[0].record == {"target": "local/ann"}
    assert provider.context_length == 100


async def test_another_target_answers_under_a_receipt_of_its_own(tmp_path: Path) -> None:
    routed = Routed(tmp_path, Told("ann", [down()]), Told("bob"))
    provider = routed.provider()
    provider.headers = headers = {"x-cairn-receipt": "rcpt_1"}
    async with aclosing(provider.stream(ASK)) as events:
        found = [event async for event in events]
    end = found[-1]
    assert isinstance(end, StreamEnd)
    assert end.target == headers[TARGET_HEADER] == "local/bob"
    assert end.receipt_id == headers[RECEIPT_HEADER] != "rcpt_1"


async def test_one_target_is_tried_again_up_to_the_attempts(tmp_path: Path) -> None:
    ann = Told("ann", [down(), down()])
    assert await Routed(tmp_path, ann, extra="attempts = 3").ask() == "ann by local/ann"
    ann.errors = [down(), down(), down()]
    with pytest.raises(UpstreamUnavailableError, match="it is down"):
        await Routed(tmp_path, ann, extra="attempts = 3").ask()
    assert len(ann.asked) == 6


async def test_a_wrong_request_is_tried_nowhere_else(tmp_path: Path) -> None:
    ann, bob = Told("ann", [InvalidRequestError("wrong")]), Told("bob")
    routed = Routed(tmp_path, ann, bob)
    with pytest.raises(InvalidRequestError, match="wrong"):
        await routed.ask()
    assert bob.asked == []
    assert routed.table.target("local/ann").num_failures == 0


async def test_a_longer_context_is_looked_for_elsewhere_and_is_no_failure(tmp_path: Path) -> None:
    ann = Told("ann", [ContextLengthError("too long")])
    routed = Routed(tmp_path, ann, Told("bob"))
    assert await routed.ask() == "bob by local/bob"
    assert routed.table.target("local/ann").num_failures == 0
    ann.errors = [ContextLengthError("too long")]
    with pytest.raises(ContextLengthError):
        await Routed(tmp_path, ann, extra="attempts = 9").ask()
    assert len(ann.asked) == 2, "it will not get shorter"


async def test_what_breaks_after_the_first_event_is_not_mended(tmp_path: Path) -> None:
    ann, bob = Told("ann", breaks_after=1), Told("bob")
    routed = Routed(tmp_path, ann, bob)
    stream = routed.provider().stream(ASK)
    assert await anext(stream) == TextDelta(0, "a")
    with pytest.raises(UpstreamUnavailableError):
        await anext(stream)
    assert bob.asked == []
    assert routed.table.target("local/ann").num_failures == 1
    assert routed.outstanding() == 0


async def test_a_silent_target_meets_the_deadline(tmp_path: Path) -> None:
    ann = Told("ann", hangs_at=0)
    routed = Routed(tmp_path, ann, extra="deadline_seconds = 0.05")
    with pytest.raises(UpstreamUnavailableError, match="deadline"):
        await routed.ask()
    assert (ann.num_open, routed.outstanding()) == (0, 0)


async def test_a_target_that_fails_is_left_alone(tmp_path: Path) -> None:
    ann = Told("ann", [down() for _ in range(9)])
    tables = "[breaker]\nfailures = 2\nopen_seconds = 1000\nmax_open_seconds = 1000"
    routed = Routed(tmp_path, ann, Told("bob"), extra="attempts = 2", tables=tables)
    for _ in range(5):
        assert await routed.ask() == "bob by local/bob"
    assert len(ann.asked) == 2
    alone = Routed(tmp_path, Told("ann", [down(), down()]), extra="attempts = 2", tables=tables)
    with pytest.raises(UpstreamUnavailableError):
        await alone.ask()
    with pytest.raises(NoTargetError) as caught:
        await alone.ask()
    assert caught.value.retry_after == pytest.approx(1000, abs=60)


async def test_one_that_is_full_rests_as_long_as_it_asks(tmp_path: Path) -> None:
    full = UpstreamOverloadedError("full", retry_after=200)
    ann = Told("ann", [full])
    routed = Routed(tmp_path, ann, Told("bob"))
    assert await routed.ask() == await routed.ask() == "bob by local/bob"
    assert len(ann.asked) == 1
    assert routed.table.target("local/ann").breaker.state(0) == "closed"
    # The queue of an engine here is another matter: it may have room the next moment.
    ann = Told("ann", [OverloadedError("full", retry_after=200)])
    routed = Routed(tmp_path, ann, Told("bob"))
    assert [await routed.ask(), await routed.ask()] == ["bob by local/bob", "ann by local/ann"]


async def test_a_model_that_is_not_there_is_no_end(tmp_path: Path) -> None:
    routed = Routed(tmp_path, Told("ann"), Told("bob"))
    cast("ToldModels", routed.models).by_name.pop("ann")
    assert await routed.ask() == "bob by local/bob"


async def test_each_target_has_its_own_defaults(tmp_path: Path) -> None:
    ann = Told("ann", sampling_defaults={"temperature": 0.6, "top_p": 0.9})
    request = replace(ASK, given=frozenset({"top_p"}), sampling=SamplingParams(top_p=0.2))
    await Routed(tmp_path, ann).ask(request)
    assert (ann.asked[0].sampling.temperature, ann.asked[0].sampling.top_p) == (0.6, 0.2)
    await Routed(tmp_path, ann).ask(replace(request, given=None))
    assert ann.asked[1].sampling.temperature == 1.0


async def test_what_is_hard_skips_the_cheap_target(tmp_path: Path) -> None:
    tables = '[routes.r.cascade]\nby = "score"\nthreshold = 0.3'
    routed = Routed(tmp_path, Told("cheap"), Told("dear"), tables=tables)
    assert await routed.ask() == "cheap by local/cheap"
    hard = replace(ASK, messages=(text_message("user", "Explain and prove: ```x = 1;``` " + "why? " * 900),))
    assert await routed.ask(hard) == "dear by local/dear"
    cast("ToldModels", routed.models).by_name["dear"].errors = [NotFoundError("gone")]
    assert await routed.ask(hard) == "cheap by local/cheap"


@pytest.mark.parametrize(("logprob", "by"), [(-0.1, "cheap"), (-2.0, "dear"), (None, "cheap")])
async def test_a_reply_that_is_not_sure_of_itself_is_thrown_away(
    tmp_path: Path, logprob: float | None, by: str
) -> None:
    cheap = Told("cheap", logprob=logprob)
    tables = '[routes.r.cascade]\nby = "logprob"\nthreshold = -1.0'
    routed = Routed(tmp_path, cheap, Told("dear"), tables=tables)
    assert await routed.ask() == f"{by} by local/{by}"
    assert cheap.asked[0].sampling.logprobs == 0
    assert routed.table.target("local/cheap").num_failures == 0
    events = [event async for event in routed.provider().stream(ASK)]
    assert all(not event.logprobs for event in events if isinstance(event, TextDelta)), (
        "nobody asked for them"
    )


async def test_a_reply_that_is_not_sure_is_better_than_none(tmp_path: Path) -> None:
    tables = '[routes.r.cascade]\nby = "logprob"\nthreshold = -1.0'
    dear = Told("dear", [down(), down()])
    routed = Routed(tmp_path, Told("cheap", logprob=-3.0), dear, extra="attempts = 2", tables=tables)
    assert await routed.ask() == "cheap by local/cheap"


async def _settled(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0)


async def test_a_shadow_gets_a_copy_and_nobody_its_answer(tmp_path: Path) -> None:
    shadow = Told("shadow")
    tables = '[routes.r.shadow]\ntarget = { model = "shadow" }'
    routed = Routed(tmp_path, Told("ann"), tables=tables)
    cast("ToldModels", routed.models).by_name["shadow"] = shadow
    assert await routed.ask() == "ann by local/ann"
    await _settled(lambda: routed.table.target("local/shadow").num_requests == 1)
    copy = shadow.asked[0]
    assert (copy.record["shadow_of"], copy.messages) == ("rcpt_1", ASK.messages)
    assert copy.request_id != "rcpt_1"
    shadow.errors = [down()]
    assert await routed.ask() == "ann by local/ann"
    await _settled(lambda: routed.table.target("local/shadow").num_failures == 1)
    await _settled(lambda: routed.table.num_copies["r"] == 0)


async def test_copies_are_bounded_and_end_with_the_table(tmp_path: Path) -> None:
    shadow = Told("shadow", hangs_at=0)
    tables = '[routes.r.shadow]\ntarget = { model = "shadow" }\nmax_outstanding = 2'
    routed = Routed(tmp_path, Told("ann"), tables=tables)
    cast("ToldModels", routed.models).by_name["shadow"] = shadow
    for _ in range(5):
        assert await routed.ask() == "ann by local/ann"
    await _settled(lambda: shadow.num_open == 2)
    assert len(shadow.asked) == 2
    await routed.table.close()
    assert (shadow.num_open, routed.outstanding(), routed.table.num_copies["r"]) == (0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_counts_never_leak_however_requests_end(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    errors = st.lists(
        st.sampled_from([down(), InvalidRequestError("wrong"), OverloadedError("full")]), max_size=3
    )
    place = st.one_of(st.none(), st.integers(0, 2))
    told = [
        Told(name, data.draw(errors), breaks_after=data.draw(place), hangs_at=data.draw(place))
        for name in ("ann", "bob")
    ]
    ticks = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=6))
    leaves = data.draw(
        st.lists(st.one_of(st.none(), st.integers(0, 3)), min_size=len(ticks), max_size=len(ticks))
    )

    async def one(routed: Routed, num_events: int | None) -> None:
        async with aclosing(routed.provider().stream(ASK)) as events:
            num = 0
            async for _ in events:
                num += 1
                if num == num_events:
                    return

    async def run() -> None:
        extra = 'strategy = "least_outstanding"\nattempts = 4'
        tables = "[breaker]\nfailures = 2\nopen_seconds = 0.001"
        routed = Routed(tmp_path_factory.mktemp("r"), *told, extra=extra, tables=tables)
        tasks = [asyncio.create_task(one(routed, leave)) for leave in leaves]
        for task, num_ticks in zip(tasks, ticks, strict=True):
            for _ in range(num_ticks):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert routed.outstanding() == 0
        assert [each.num_open for each in told] == [0, 0]
        await routed.table.close()

    asyncio.run(run())
