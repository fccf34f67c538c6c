"""`cairn bench`: what this machine makes of a model, beside what it could."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cairn.cli.output import JSON_OPTION, print_json, print_table

if TYPE_CHECKING:
    from cairn.compute.ceilings import Ceilings
    from cairn.core.progress import Progress
    from cairn.engine.measurement import Speed
    from cairn.engine.weight_reader import WeightFormat

app = typer.Typer(no_args_is_help=True, help="Measure this machine.", rich_markup_mode=None)

_FORMATS: "tuple[WeightFormat, ...]" = ("int4", "int8", "bfloat16", "float32")
_STEPS = {"1 stream": 48, "32 streams": 24, "prompt": 3}
_QUICK_STEPS = {"1 stream": 12, "32 streams": 6, "prompt": 1}

Row = dict[str, Any]


@app.callback()
def root() -> None:
    """Keeps `engine` a command of its own while it is the only one."""


@app.command("engine")
def engine(
    model: str = typer.Option("", help="A model of yours; otherwise shapes with random weights."),
    shape: list[str] = typer.Option([], help="8m, 135m or 420m; otherwise all (--quick: the first two)."),
    weights: list[str] = typer.Option([], help="int4, int8, bfloat16 or float32; otherwise all."),
    threads: int = typer.Option(0, min=0, help="Threads to compute with; 0: every core."),
    quick: bool = typer.Option(False, "--quick", help="A quarter of the steps."),
    png: Path | None = typer.Option(None, help="Where the roofline is drawn; otherwise in the home folder."),
    as_json: bool = JSON_OPTION,
) -> None:
    """How fast the native engine is here, and how near to what memory and cores allow.

    One stream, 32 streams and a prompt of 512 tokens, with the weights in every format.
    """
    from cairn.compute.device import probe_device
    from cairn.compute.profile import is_busy
    from cairn.core.config import Settings
    from cairn.core.progress import console_progress

    if model and shape:
        raise typer.BadParameter("a model has its own shape: give one of --model and --shape")
    formats = _chosen(weights, _FORMATS, "--weights")
    if is_busy(probe_device()):
        typer.echo("other programs keep this machine busy: expect less than it can do", err=True)
    picture = png or Settings.from_env().home / "roofline.png"
    with ExitStack() as folders:
        models = _user_model(model) if model else dict(_random_models(shape, quick, folders))
        progress = console_progress()
        ceilings, rows = _measure(models, formats, threads, _QUICK_STEPS if quick else _STEPS, progress)
    machine = _machine(ceilings)
    drawn = _draw(ceilings, rows, picture, machine)
    if as_json:
        values = {"machine": machine, "ceilings": asdict(ceilings), "rows": rows}
        print_json({**values, "png": str(picture) if drawn else None})
        return
    typer.echo(
        f"{machine}: reads {ceilings.read_gbps:.1f} GB/s ({ceilings.read_gbps_of_one:.1f} with one thread)"
    )
    rates = (f"{name} {rate:.0f}" for name, rate in ceilings.gflops.items())
    typer.echo(f"products at their best, GFLOP/s: {', '.join(rates)}\n")
    shown = [_shown(row) for row in rows]
    print_table(shown, list(shown[0]), empty="nothing was measured")
    if drawn:
        typer.echo(f"\nroofline: {picture}")


def _chosen(given: Sequence[str], known: Sequence[Any], option: str) -> Sequence[Any]:
    """What was asked for, in the known order; all where nothing was."""
    for name in given:
        if name not in known:
            raise typer.BadParameter(f"{name!r}, allowed: {', '.join(known)}", param_hint=option)
    return [name for name in known if not given or name in given]


def _user_model(ref: str) -> dict[str, Path]:
    """Its folder; nothing is written to the registry, so no packed weights are kept either."""
    from cairn.registry import Registry

    with Registry.open() as registry:
        return {ref: registry.get(ref).folder}


def _random_models(shapes: Sequence[str], quick: bool, folders: ExitStack) -> Iterator[tuple[str, Path]]:
    """Folders that go when the command ends."""
    from cairn.models.random_checkpoint import SHAPES, write_random_checkpoint

    chosen = _chosen(shapes, list(SHAPES), "--shape")
    for name in chosen[:2] if quick and not shapes else chosen:
        folder = Path(folders.enter_context(tempfile.TemporaryDirectory(prefix="cairn-bench-")))
        write_random_checkpoint(folder, SHAPES[name])
        yield name, folder


def _measure(
    models: Mapping[str, Path],
    formats: "Sequence[WeightFormat]",
    threads: int,
    num_steps: Mapping[str, int],
    progress: "Progress",
) -> "tuple[Ceilings, list[Row]]":
    """Every model in every format at every kind of work; steps of larger models count for more."""
    from cairn.compute.ceilings import measure_ceilings
    from cairn.engine import NativeRunner
    from cairn.engine.measurement import WORKS, measure

    sizes = {
        name: sum(file.stat().st_size for file in folder.iterdir()) / 1e6 for name, folder in models.items()
    }
    rows = []
    with progress.task("measuring", (len(formats) * sum(sizes.values()))) as task:
        for name, folder in models.items():
            for weights in formats:
                task.note(f"{name}, {weights}")
                runner = NativeRunner(folder, weights=weights, num_threads=threads or None)
                for work in WORKS:
                    speed = measure(runner, work, num_steps=num_steps[work])
                    rows.append({"model": name, "weights": weights, **_values(speed)})
                    task.advance(sizes[name] / len(WORKS))
        task.note("memory and products")
        ceilings = measure_ceilings(runner.num_threads, formats)
    for row in rows:
        row["share_of_read"] = row["gbps"] / ceilings.read_gbps
        row["share_of_products"] = row["gflops"] / ceilings.gflops[row["weights"]]
    return ceilings, rows


def _values(speed: "Speed") -> Row:
    return {
        "work": speed.work,
        "tokens_per_second": speed.tokens_per_second,
        "gbps": speed.bytes_per_second / 1e9,
        "gflops": speed.operations_per_second / 1e9,
        "operations_per_byte": speed.intensity,
    }


def _shown(row: Row) -> Row:
    """A line of the table: numbers of three digits."""
    return {
        "model": row["model"],
        "weights": row["weights"],
        "work": row["work"],
        "tokens/s": _digits(row["tokens_per_second"]),
        "GB/s": _digits(row["gbps"]),
        "% of read": round(100 * row["share_of_read"]),
        "GFLOP/s": _digits(row["gflops"]),
        "% of best": round(100 * row["share_of_products"]),
    }


def _digits(value: float) -> float:
    return round(value) if value >= 100 else round(value, 1)


def _machine(ceilings: "Ceilings") -> str:
    from cairn.compute import probe_device
    from cairn.engine.native_runner import native_kernels

    threads = f"{ceilings.num_threads} thread{'s' * (ceilings.num_threads != 1)}"
    return f"{probe_device().processor}, {threads}, {native_kernels()[0]}"


def _draw(ceilings: "Ceilings", rows: Sequence[Row], picture: Path, machine: str) -> bool:
    """Whether the roofline could be drawn; where it could not, why."""
    try:
        from cairn.compute.roofline import Point, draw_roofline
    except ImportError:
        typer.echo("no roofline: matplotlib is not installed\n  pip install 'cairn[train]'", err=True)
        return False
    models: dict[str, list[Point]] = {}
    for row in rows:
        point = Point(
            weights=row["weights"],
            work="prompt of 512" if row["work"] == "prompt" else row["work"],
            intensity=row["operations_per_byte"],
            gflops=row["gflops"],
            label=f"{row['tokens_per_second']:,.0f}/s",
        )
        models.setdefault(row["model"], []).append(point)
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw_roofline(ceilings, models, picture, f"Cairn on {machine}: tokens a second under the machine's roofs")
    return True
