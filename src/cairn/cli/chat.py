"""`cairn chat`: talk to a model here, without a server."""

import sys
from typing import TYPE_CHECKING

import typer

from cairn.cli.output import fail
from cairn.core.errors import CairnError

if TYPE_CHECKING:
    import asyncio

    from cairn.core.chat import Message, SamplingParams
    from cairn.providers import LocalProvider
    from cairn.registry import Registry


def chat(
    model: str = typer.Argument("", metavar="[MODEL]", help="A name or digest; otherwise the latest model."),
    system: str = typer.Option("", help="The system message."),
    temperature: float | None = typer.Option(None, min=0, help="0 is greedy; otherwise the model's own."),
    max_tokens: int | None = typer.Option(None, min=1, help="Most tokens of a reply."),
    seed: int | None = typer.Option(None, help="Equal seeds give equal replies."),
) -> None:
    """Talk to a model in the terminal.

    With a pipe, answer it once: echo hello | cairn chat

    Ctrl-C stops a reply, Ctrl-D ends the conversation.
    """
    import asyncio

    from cairn.core.chat import SamplingParams, text_message
    from cairn.providers.starter import adopt_starter
    from cairn.registry import Registry

    is_piped = not sys.stdin.isatty()
    history = [text_message("system", system)] if system else []
    with Registry.open() as registry:
        adopt_starter(registry)
        registry.check_writable()  # for the receipts: refused before the first word, not after it
        provider = load_chat_model(registry, model)
        given = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
        values = {name: value for name, value in given.items() if value is not None}
        sampling = SamplingParams(**{**provider.sampling_defaults, **values})
        try:
            with asyncio.Runner() as runner:
                if is_piped:
                    history.append(text_message("user", sys.stdin.read().strip()))
                    _answer(runner, provider, history, sampling)
                else:
                    _converse(runner, provider, history, sampling)
        finally:
            provider.close()


def _converse(
    runner: "asyncio.Runner",
    provider: "LocalProvider",
    history: "list[Message]",
    sampling: "SamplingParams",
) -> None:
    import contextlib

    from cairn.core.chat import text_message

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (gives input() history and editing)
    typer.echo(f"{provider.name}. Ctrl-C stops a reply, Ctrl-D ends.", err=True)
    while True:
        try:
            said = input("> ").strip()
        except EOFError:
            typer.echo("", err=True)
            return
        except KeyboardInterrupt:
            typer.echo("", err=True)
            continue
        if not said:
            continue
        asked = [*history, text_message("user", said)]
        try:
            reply = _answer(runner, provider, asked, sampling)
        except CairnError as error:
            # One refused question (too long, say) does not end the conversation.
            fail(error.message, error.remedy)
            continue
        history[:] = [*asked, text_message("assistant", reply)]


def _answer(
    runner: "asyncio.Runner",
    provider: "LocalProvider",
    history: "list[Message]",
    sampling: "SamplingParams",
) -> str:
    """Print a reply as it comes; what was said until Ctrl-C is kept."""
    from contextlib import aclosing

    from cairn.core.chat import ChatRequest, Principal, TextDelta

    request = ChatRequest(
        model=provider.name, messages=tuple(history), sampling=sampling, principal=Principal("local")
    )
    pieces: list[str] = []

    async def speak() -> None:
        async with aclosing(provider.stream(request)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    pieces.append(event.text)
                    sys.stdout.write(event.text)
                    sys.stdout.flush()

    try:
        runner.run(speak())
        if not (pieces and pieces[-1].endswith("\n")):
            typer.echo("")
    except KeyboardInterrupt:
        typer.echo(" [stopped]", err=True)
    return "".join(pieces)


def load_chat_model(registry: "Registry", model: str) -> "LocalProvider":
    """The chat model of a name, or the latest one."""
    from cairn.core.errors import NotFoundError
    from cairn.core.progress import console_progress
    from cairn.providers import load_local_provider
    from cairn.server.config import ServerConfig
    from cairn.server.models import NO_MODEL_REMEDY, ModelPool

    served = ModelPool(registry, ServerConfig(), names=[model] if model else []).served()
    if not served:
        raise NotFoundError("there is no model", remedy=NO_MODEL_REMEDY)
    return load_local_provider(registry, served[0].digest, name=served[0].name, progress=console_progress())
