"""The roofline (Williams et al. 2009): how near measured work comes to what a machine can do, as a picture.

Operations a second over operations a byte, both axes logarithmic. The slope is the rate at which memory is
read, the ceilings are the rates of the products; a point on a line cannot be faster in its format here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from cairn.compute.ceilings import Ceilings
from cairn.core.file_writing import replace_file

_INK, _SOFT, _FAINT, _PAPER, _LICHEN = "#23241f", "#6c6d64", "#e4e2d9", "#fbfaf7", "#48672a"
_STYLES: Mapping[str, dict[str, Any]] = {
    "int4": {"color": _LICHEN, "markerfacecolor": _LICHEN, "zorder": 6},
    "int8": {"color": _INK, "markerfacecolor": _INK},
    "bfloat16": {"color": _INK, "markerfacecolor": _PAPER},
    "float32": {"color": _SOFT, "markerfacecolor": _FAINT},
}
_MARKERS = ("o", "D", "^")
_LEAST_GAP = 0.036
"""Of two labels in the margin, as a share of the picture's height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measured kind of work with weights of one format."""

    weights: str
    work: str
    intensity: float
    """Operations a byte."""
    gflops: float
    label: str


def draw_roofline(
    ceilings: Ceilings, models: Mapping[str, Sequence[Point]], picture: Path, title: str
) -> None:
    """One panel a model under the same roofs, written as PNG."""
    points = [point for each in models.values() for point in each]
    works = list(dict.fromkeys(point.work for point in points))
    left, right = _decades([point.intensity for point in points])
    low, high = _decades([*(point.gflops for point in points), *ceilings.gflops.values()])
    figure = Figure(figsize=(3.9 * len(models) + 1.4, 4.9), dpi=160, layout="constrained", facecolor=_PAPER)
    FigureCanvasAgg(figure)
    panels: list[Axes] = list(figure.subplots(1, len(models), sharey=True, squeeze=False)[0])
    for axes, (name, own) in zip(panels, models.items(), strict=True):
        axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, high), facecolor=_PAPER)
        axes.set_title(name, loc="left", fontsize=10.5, color=_INK, fontweight="bold")
        _quiet(axes)
        _draw_roofs(axes, ceilings, left, right)
        for weights in ceilings.gflops:
            _draw_points(axes, [point for point in own if point.weights == weights], works)
    _name_roofs(panels[-1], ceilings, low, high)
    panels[0].set_ylabel("GFLOP/s", color=_INK, fontsize=9)
    _name_slope(figure, panels[0], ceilings, left)
    _name_markers(panels[0], works)
    figure.supxlabel("operations a byte read", color=_INK, fontsize=9)
    width = int(figure.get_figwidth() * 11)  # letters that fit, so that none falls off a narrow picture
    figure.suptitle("\n".join(wrap(title, width)), x=0.01, ha="left", fontsize=11, color=_INK)
    temporary = picture.with_name(f".{picture.name}")
    figure.savefig(temporary, format="png")
    replace_file(picture, [temporary.read_bytes()])
    temporary.unlink()


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis: room of a third of a decade on both sides."""
    return 10 ** (math.log10(min(values)) - 0.4), 10 ** (math.log10(max(values)) + 0.35)


def _draw_roofs(axes: Axes, ceilings: Ceilings, left: float, right: float) -> None:
    read, best = ceilings.read_gbps, max(ceilings.gflops.values())
    axes.plot([left, best / read], [left * read, best], color=_INK, linewidth=1.3)
    for weights, rate in ceilings.gflops.items():
        axes.plot([rate / read, right], [rate, rate], color=_STYLES[weights]["color"], linewidth=0.9)


def _draw_points(axes: Axes, points: Sequence[Point], works: Sequence[str]) -> None:
    if not points:
        return
    style = _STYLES[points[0].weights]
    line = [point.intensity for point in points], [point.gflops for point in points]
    axes.plot(*line, color=style["color"], linewidth=0.7, alpha=0.6, zorder=2)
    for point in points:
        marker = _MARKERS[works.index(point.work) % len(_MARKERS)]
        axes.plot(point.intensity, point.gflops, marker=marker, markersize=6, markeredgewidth=1.1, **style)
    first, *others = points
    _write(axes, f"{first.weights}, {first.label}", first, (7, -3), color=style["color"], va="top")
    if first.weights == "int4":
        for point in others:
            _write(axes, point.label, point, (0, 8), color=style["color"], ha="center")


def _name_roofs(axes: Axes, ceilings: Ceilings, low: float, high: float) -> None:
    """In the right margin, pushed apart where they lie close."""
    span = math.log10(high / low)
    at = -math.inf
    for weights, rate in sorted(ceilings.gflops.items(), key=lambda item: item[1]):
        at = max(at + _LEAST_GAP, math.log10(rate / low) / span)
        axes.annotate(
            f"{weights} {rate:,.0f}",
            (1.02, at),
            xycoords="axes fraction",
            va="center",
            fontsize=8,
            color=_STYLES[weights]["color"],
            annotation_clip=False,
        )


def _name_slope(figure: Figure, axes: Axes, ceilings: Ceilings, left: float) -> None:
    """Along the line, so that nobody asks which one it is."""
    figure.draw_without_rendering()  # only then is the slope on paper known
    ends = axes.transData.transform(
        [(left, left * ceilings.read_gbps), (10 * left, 10 * left * ceilings.read_gbps)]
    )
    angle = math.degrees(math.atan2(ends[1][1] - ends[0][1], ends[1][0] - ends[0][0]))
    axes.annotate(
        f"memory, {ceilings.read_gbps:.0f} GB/s",
        (left * 1.25, left * 1.25 * ceilings.read_gbps),
        xytext=(-2, 5),
        textcoords="offset points",
        rotation=angle,
        rotation_mode="anchor",
        fontsize=8,
        color=_INK,
    )


def _name_markers(axes: Axes, works: Sequence[str]) -> None:
    for number, work in enumerate(works):
        axes.plot(
            [],
            [],
            marker=_MARKERS[number % len(_MARKERS)],
            color=_INK,
            linestyle="",
            label=work,
            markersize=5,
        )
    axes.legend(frameon=False, fontsize=8, labelcolor=_INK, loc="lower right", handletextpad=0.3, borderpad=0)


def _write(axes: Axes, text: str, at: Point, offset: tuple[float, float], **style: Any) -> None:
    """Beside a point, readable where a line passes."""
    halo = [withStroke(linewidth=2.5, foreground=_PAPER)]
    place: dict[str, Any] = {"xytext": offset, "textcoords": "offset points", "fontsize": 8, "zorder": 8}
    axes.annotate(text, (at.intensity, at.gflops), path_effects=halo, **place, **style)


def _quiet(axes: Axes) -> None:
    axes.grid(which="major", color=_FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", colors=_INK, labelsize=8, length=3)
    axes.tick_params(which="minor", length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_INK)
        axes.spines[side].set_linewidth(0.8)
