"""The ceilings of this machine, and the picture under them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from cairn.compute.ceilings import Ceilings, measure_ceilings
from cairn.compute.roofline import Point, draw_roofline
from tests.engine.native_tiny import needs_native

CEILINGS = Ceilings(
    num_threads=2,
    read_gbps=35,
    read_gbps_of_one=26,
    gflops={"int4": 300, "float32": 140},
    gflops_of_one={"int4": 150, "float32": 70},
)


def point(weights: str, intensity: float, gflops: float) -> Point:
    return Point(weights=weights, work="1 stream", intensity=intensity, gflops=gflops, label="100/s")


@needs_native
def test_every_format_has_its_ceiling() -> None:
    found = measure_ceilings(2, ["int4", "int8", "bfloat16", "float32"])
    rates = [*found.gflops.values(), *found.gflops_of_one.values(), found.read_gbps, found.read_gbps_of_one]
    assert len(rates) == 10
    assert np.isfinite(rates).all()
    assert min(rates) > 0


@pytest.mark.parametrize("num_models", [1, 3])
def test_a_panel_a_model(tmp_path: Path, num_models: int) -> None:
    # The last one lies above its roof, as what the cache holds does.
    points = [point("int4", 3.4, 100), point("float32", 0.5, 17), point("int4", 3.0, 900)]
    picture = tmp_path / "roofline.png"
    picture.write_text("an older one")
    draw_roofline(CEILINGS, {f"model {i}": points for i in range(num_models)}, picture, "A machine")
    height, width, _ = imread(picture).shape
    assert width / height == pytest.approx((3.9 * num_models + 1.4) / 4.9, rel=0.01)
    assert list(tmp_path.iterdir()) == [picture]


def test_the_accent_is_for_int4_alone(tmp_path: Path) -> None:
    def green(points: list[Point]) -> int:
        draw_roofline(ceilings, {"a": points}, tmp_path / "a.png", "A machine")
        red, green, blue = np.moveaxis(imread(tmp_path / "a.png")[..., :3], 2, 0)
        return int(((green > 1.2 * red) & (green > 1.2 * blue)).sum())

    ceilings = replace(CEILINGS, gflops={"float32": 140})
    assert green([point("float32", 0.5, 17)]) == 0
    ceilings = CEILINGS
    assert green([point("int4", 3.4, 100)]) > 100
