"""Learning curves show what was recorded: each side's runs in order, with their intervals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from benchmarks import curves


def run_of(tokens: int, mean: float, machine: str = "cpu") -> dict[str, Any]:
    kl_bits = [[mean, mean, mean], [mean, mean - 0.1, mean + 0.1]]
    return {"tokens": tokens, "seconds": tokens / 100, "machine": machine, "kl_bits": kl_bits}


FIGURES = {
    "norm lens": run_of(0, 3.0),
    "ours, 200 tokens": run_of(200, 1.0),
    "ours, 100 tokens": run_of(100, 1.5),
    "tuned-lens, 400 tokens": run_of(400, 2.0),
}


def drawn(axes: Axes) -> dict[Any, list[tuple[float, float]]]:
    """Points of every line, by its label."""
    return {line.get_label(): [tuple(point) for point in np.asarray(line.get_xydata())] for line in axes.lines}


def test_every_run_is_a_point_and_the_norm_lens_is_none() -> None:
    by_tokens, by_time = curves.learning_curves(FIGURES, time=True).axes
    assert drawn(by_tokens) == {"this project": [(100, 1.5), (200, 1.0)], "tuned-lens package": [(400, 2.0)]}
    assert drawn(by_time)["this project"] == [(1, 1.5), (2, 1.0)]
    band = by_tokens.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((0.9, 1.6))


def test_the_axis_names_the_clock() -> None:
    assert len(curves.learning_curves(FIGURES).axes) == 1
    assert curves.learning_curves(FIGURES, time=True).axes[1].get_xlabel() == "CPU time of one thread, s"
    on_gpu = {"ours, 1 tokens": run_of(1, 1.0, machine="NVIDIA H100")}
    assert curves.learning_curves(on_gpu, time=True).axes[1].get_xlabel() == "time on NVIDIA H100, s"


def test_the_picture_is_written_and_a_file_without_runs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures, picture = tmp_path / "figures.json", tmp_path / "img" / "curves.png"
    figures.write_text(json.dumps(FIGURES))
    assert curves.main([str(figures), "--png", str(picture), "--title", "demo"]) == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"
    figures.write_text(json.dumps({"norm lens": FIGURES["norm lens"]}))
    assert curves.main([str(figures), "--png", str(picture)]) == 2
    assert "has no runs of ours or of the package" in capsys.readouterr().err
