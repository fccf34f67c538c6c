"""cli: the prompt. Verbs a person would guess; nothing imports this room.

Each module holds the commands of one area and imports its room only when a command runs,
so that `cairn --help` stays fast. Tables and `--json` go through `cli.output`; a `CairnError`
ends the process with its message and remedy on stderr and exit code 1 (2 for wrong usage).
"""

import gc
import os
import sys

import typer

from cairn import __version__
from cairn.cli import (
    artifact,
    ask,
    audit,
    bench,
    build,
    chat,
    data,
    doctor,
    evaluate,
    group,
    index,
    key,
    limit,
    models,
    plan,
    receipt,
    route,
    runs,
    trace,
    up,
    usage,
    user,
)
from cairn.cli.output import fail
from cairn.core.errors import CairnError

app = typer.Typer(
    name="cairn",
    help="Build, serve and answer for your own generative models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(artifact.app, name="artifact")
app.add_typer(audit.app, name="audit")
app.add_typer(runs.app, name="runs")
app.command("build")(build.build)
app.command("plan")(plan.plan)
app.add_typer(data.app, name="data")
app.command("up")(up.up)
app.command("chat")(chat.chat)
app.add_typer(index.app, name="index")
app.command("ask")(ask.ask)
app.add_typer(evaluate.app, name="eval")
app.add_typer(models.app, name="models")
app.command("import")(models.import_model)
app.command("pull")(models.pull)
app.add_typer(key.app, name="key")
app.add_typer(user.app, name="user")
app.add_typer(group.app, name="group")
app.add_typer(route.app, name="route")
app.add_typer(limit.app, name="limit")
app.command("usage")(usage.usage)
app.add_typer(receipt.app, name="receipt")
app.command("replay")(receipt.replay)
app.add_typer(trace.app, name="trace")
app.command("doctor")(doctor.doctor)
app.add_typer(bench.app, name="bench")


@app.callback(invoke_without_command=True)
def root(version: bool = typer.Option(False, "--version", help="Show the version and leave.")) -> None:
    if version:
        typer.echo(f"cairn {__version__}")
        raise typer.Exit


def main() -> None:
    """The `cairn` command: run, and turn every known failure into one clear message."""
    try:
        app()
    except CairnError as error:
        fail(error.message, error.remedy)
        sys.exit(1)
    except KeyboardInterrupt:
        fail("interrupted", "run the same command again to go on where it stopped")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has left (`cairn artifact ls | head`); that is not a failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        # The interpreter's end would look through everything once more, which takes longer than all else.
        gc.freeze()
