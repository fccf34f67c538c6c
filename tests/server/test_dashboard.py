"""The Grafana dashboard asks for metrics and labels that the server has."""

import json
import re
from pathlib import Path
from typing import Any

from prometheus_client import Metric

from cairn.server.metrics import Metrics

_DASHBOARD = Path(__file__).parents[2] / "deploy" / "grafana" / "cairn.json"
_SUFFIXES = ("_total", "_bucket", "_count", "_sum")


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_DASHBOARD.read_text())["panels"]
    return found


def labels_of(metrics: Metrics) -> dict[str, set[str]]:
    """Of each metric by the names it is asked under."""
    found: dict[str, set[str]] = {}
    for collector in metrics.registry._collector_to_names:
        described: list[Metric] = list(collector.describe())  # type: ignore[attr-defined]  # all of ours do
        names = set(getattr(collector, "_labelnames", ()))
        for each in described:
            found |= {each.name + suffix: names | {"le"} for suffix in ("", *_SUFFIXES)}
    return found


def test_every_expression_asks_for_what_there_is() -> None:
    known = labels_of(Metrics())
    expressions = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    assert len(expressions) > 15
    for expression in expressions:
        names = re.findall(r"\bcairn_\w+", expression)
        assert names, expression
        assert set(names) <= known.keys(), expression
        asked = set(re.findall(r"(\w+)(?:=~|!=|=)\"", expression))
        asked |= {
            each.strip() for by in re.findall(r"\bby \(([^)]*)\)", expression) for each in by.split(",")
        }
        assert asked <= set.intersection(*(known[name] for name in names)), expression


def test_legends_name_labels_that_are_left() -> None:
    for panel in panels():
        for target in panel.get("targets", ()):
            kept = re.search(r"\bby \(([^)]*)\)", target["expr"])
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert kept is None or label in kept[1], panel["title"]


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())
