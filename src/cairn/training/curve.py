"""The loss curve of a run as a picture, drawn from its metrics.jsonl."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from cairn.training.metrics import read_metrics

_INK, _FAINT, _LICHEN, _CLAY = "#22251f", "#d9d8d0", "#4c7a4f", "#b4552d"


def draw_loss_curve(metrics: Path, picture: Path, *, title: str = "") -> None:
    """Train and validation loss against tokens, the learning rate beneath; written as PNG."""
    lines = list(read_metrics(metrics))
    train = [line for line in lines if line["split"] == "train"]
    validation = [line for line in lines if line["split"] == "validation"]
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    loss, rate = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    _draw_loss(loss, train, validation)
    rate.plot(_column(train, "tokens"), _column(train, "learning_rate"), color=_INK, linewidth=1.2)
    rate.set_ylabel("learning rate")
    rate.set_ylim(bottom=0)
    rate.set_xlabel("tokens")
    rate.xaxis.set_major_formatter(EngFormatter(sep=""))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    for axes in (loss, rate):
        _quiet(axes)
    if title:
        loss.set_title(title, loc="left", fontsize=11, color=_INK)
    temporary = picture.with_name(f".{picture.name}")
    figure.savefig(temporary, format="png")
    temporary.replace(picture)


def _draw_loss(axes: Axes, train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> None:
    axes.plot(
        _column(train, "tokens"), _column(train, "loss"), color=_LICHEN, linewidth=1.2, label="training"
    )
    if validation:
        tokens, losses = _column(validation, "tokens"), _column(validation, "loss")
        axes.plot(tokens, losses, color=_CLAY, linewidth=1.4, marker="o", markersize=3.5, label="validation")
        axes.annotate(
            f"{losses[-1]:.3f}",
            (tokens[-1], losses[-1]),
            xytext=(0, 7),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color=_CLAY,
        )
    axes.set_ylabel("loss, nats per token")
    axes.legend(frameon=False, fontsize=9, labelcolor=_INK)


def _quiet(axes: Axes) -> None:
    axes.grid(axis="y", color=_FAINT, linewidth=0.6)
    axes.tick_params(colors=_INK, labelsize=9, length=3)
    axes.margins(x=0.02)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_INK)
        axes.spines[side].set_linewidth(0.8)


def _column(lines: list[dict[str, Any]], name: str) -> list[float]:
    return [line[name] for line in lines]
