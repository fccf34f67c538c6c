"""`cairn receipt` and `cairn replay`: what made an answer, and making it again."""

from typing import TYPE_CHECKING

import typer

from cairn.cli.output import JSON_OPTION, human_time, print_json, print_table

if TYPE_CHECKING:
    from cairn.registry import Receipt, Registry

app = typer.Typer(no_args_is_help=True, help="What made an answer: list and show receipts.")

ID = typer.Argument(metavar="ID", help="The id a reply carries in its header x-cairn-receipt.")


@app.command("ls")
def list_receipts(
    limit: int = typer.Option(20, min=1, help="How many, newest first."), as_json: bool = JSON_OPTION
) -> None:
    """List receipts, newest first."""
    from cairn.core.digests import short
    from cairn.registry import Registry

    with Registry.open() as registry:
        receipts = registry.receipts(limit)
    rows = [
        {
            "id": receipt.receipt_id,
            "created": human_time(receipt.created_at),
            "kind": receipt.kind,
            "model": receipt.model,
            "artifact": short(receipt.artifact),
            "user": receipt.user_id,
            "tokens": sum(map(len, receipt.outputs)),
        }
        for receipt in receipts
    ]
    if as_json:
        return print_json(rows)
    columns = ["id", "created", "kind", "model", "artifact", "user", "tokens"]
    return print_table(rows, columns, empty="No receipts yet. Ask something: cairn chat")


@app.command()
def show(receipt_id: str = ID, as_json: bool = JSON_OPTION) -> None:
    """Show the artifact, the sampling with its seed, and the tokens of an answer as text."""
    from dataclasses import asdict

    from cairn.core.errors import CairnError
    from cairn.data import Tokenizer
    from cairn.providers.receipts import shown
    from cairn.registry import Registry

    with Registry.open() as registry:
        stored = registry.receipt(receipt_id)
        receipt = shown(registry.database, stored, None)
        if as_json:
            return print_json(asdict(receipt))
        try:
            tokenizer = Tokenizer.load(registry.get(receipt.artifact).folder)
        except CairnError:
            tokenizer = None  # the artifact is gone; the numbers are still worth showing
    lines = {
        "receipt": receipt.receipt_id,
        "created": human_time(receipt.created_at),
        "model": f"{receipt.model} = {receipt.artifact or _remote(receipt)}"
        + (f" with {receipt.adapter}" if receipt.adapter else ""),
        "user": receipt.user_id,
        "trace": receipt.trace_id or "none",
        "runner": ", ".join(f"{key} {value}" for key, value in receipt.runner.items()),
        "sampling": ", ".join(f"{key} {value}" for key, value in receipt.sampling.items() if value),
        "prompt": f"{len(stored.prompt_token_ids)} tokens"
        + ("" if receipt is stored else ", not shown: a passage in it is gone"),
    }
    for key, value in lines.items():
        typer.echo(f"{key:<9} {value}")
    for index, text in enumerate(receipt.request.get("replies", ())):
        typer.echo(f"\nchoice {index}: ended by {receipt.finish_reasons[index]}\n{text}")
    if not receipt.artifact:
        return None
    for index, (tokens, reason) in enumerate(zip(receipt.outputs, receipt.finish_reasons, strict=True)):
        typer.echo(f"\nchoice {index}: {len(tokens)} tokens, ended by {reason}")
        typer.echo(tokenizer.decode(tokens) if tokenizer else str(tokens))
    return None


def replay(receipt_id: str = ID, as_json: bool = JSON_OPTION) -> None:
    """Make an answer again and compare its tokens.

    Ends with 1 and names the first token when they differ.
    """
    import asyncio
    from dataclasses import asdict

    from cairn.core.errors import InvalidRequestError, NotFoundError
    from cairn.engine import EngineConfig
    from cairn.providers import load_local_provider
    from cairn.providers.receipts import is_whole
    from cairn.registry import Registry

    with Registry.open() as registry:
        receipt = registry.receipt(receipt_id)
        if receipt.kind == "reading":
            return _replay_reading(registry, receipt, as_json)
        if not receipt.artifact:
            raise InvalidRequestError(
                f"{receipt_id} was answered by {_remote(receipt)}, which cannot say the same again",
                remedy="replay answers of models that run here",
            )
        if not is_whole(registry.database, receipt, None):
            raise NotFoundError(
                f"a passage that {receipt_id} was made from is gone or has changed",
                remedy="ask again: the answer may be another one now",
            )
        config = EngineConfig(weights=receipt.runner.get("dtype", "auto"))
        provider = load_local_provider(registry, receipt.adapter or receipt.artifact, config=config)
        try:
            result = asyncio.run(provider.replay(receipt))
        finally:
            provider.close()
    if as_json:
        print_json(asdict(result) | {"is_same": result.is_same})
    elif result.difference is None:
        count = sum(map(len, result.outputs))
        typer.echo(f"the same: {count} tokens in {len(result.outputs)} choice(s), from {receipt.artifact}")
    else:
        found = result.difference
        typer.echo(
            f"different: choice {found.choice}, token {found.position}: recorded {found.recorded}, "
            f"now {found.replayed} (made with {receipt.runner}, here {provider.runner})"
        )
    if not result.is_same:
        raise typer.Exit(1)
    return None


def _remote(receipt: "Receipt") -> str:
    """The model of another server that answered."""
    return f"{receipt.runner.get('provider')}/{receipt.runner.get('model')}"


def _replay_reading(registry: "Registry", receipt: "Receipt", as_json: bool) -> None:
    """Have the passages of a receipt read again."""
    from cairn.providers.knowledge import Library
    from cairn.providers.rereading import reread

    with Library(registry) as library:
        again = reread(library, receipt)
    recorded = receipt.request["answer"]
    if as_json:
        print_json({"recorded": recorded, "replayed": again, "is_same": again == recorded})
    elif again == recorded:
        typer.echo(f"the same words of the same passage, found by {receipt.artifact}")
    else:
        typer.echo(f"different: recorded {recorded}, now {again}")
    if again != recorded:
        raise typer.Exit(1)
