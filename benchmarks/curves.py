"""Draws what `benchmarks.quality` recorded: held-out KL against tokens, and against time, ours and the package's.

python -m benchmarks.curves tiny.json --title "8-block Llama" --png docs/img/learning_curves_tiny.png
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.tuned_lens_package import PACKAGE

SIDES = (("ours", "this project", "C0", "-o"), (PACKAGE, f"{PACKAGE} package", "C1", "-s"))
"""Beginning of the runs' names, label, colour and line."""


def learning_curves(figures: dict[str, Any], title: str = "", time: bool = False) -> Figure:
    """KL(P_final‖P_row), the mean over the inner rows with its interval over documents, by tokens.

    Args:
        figures: What `benchmarks.quality` recorded.
        title: Title of the picture.
        time: Whether it is also drawn by time, in a second panel.
    """
    figure = Figure(figsize=(10 if time else 6.5, 4.5), layout="constrained")
    panels = figure.subplots(1, 1 + time, sharey=True, squeeze=False)[0]
    machine = next(iter(figures.values()))["machine"]
    seconds = "CPU time of one thread, s" if machine == "cpu" else f"time on {machine}, s"
    keys = (("tokens", "tokens of training text"), ("seconds", seconds))
    for axes, (key, label) in zip(panels, keys[: 1 + time], strict=True):
        for name, shown, colour, style in SIDES:
            _curve(axes, [found for run, found in figures.items() if run.startswith(name)], key, shown, colour, style)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="x", labelsize="small")
        axes.set_xlabel(label)
        axes.grid(alpha=0.3, which="both")
    panels[0].set_ylabel("mean KL(final ‖ row) on held-out text, bits")
    panels[0].legend(title="bands: 95% over documents")
    figure.suptitle(title)
    return figure


def _curve(axes: Axes, runs: list[dict[str, Any]], key: str, label: str, colour: str, style: str) -> None:
    """Draw one side; nothing where it has no run."""
    points = sorted((run[key], *run["kl_bits"][-1]) for run in runs)
    if not points:
        return
    at, means, lows, highs = zip(*points, strict=True)
    axes.fill_between(at, lows, highs, color=colour, alpha=0.15)
    axes.plot(at, means, style, color=colour, label=label, markersize=5)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a picture, in a folder that is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> int:
    """Draw the picture.

    Returns:
        Exit status: 0, or 2 where the file has no runs.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, help="file of benchmarks.quality")
    parser.add_argument("--png", type=Path, required=True, help="picture to write")
    parser.add_argument("--title", default="", help="its title")
    parser.add_argument("--time", action="store_true", help="draw them against time as well")
    given = parser.parse_args(arguments)
    figures = json.loads(given.json.read_text())
    if not any(run.startswith(name) for run in figures for name, *_ in SIDES):
        print(f"benchmarks.curves: {given.json} has no runs of ours or of the package.", file=sys.stderr)
        return 2
    save_figure(learning_curves(figures, given.title, given.time), given.png)
    return 0


if __name__ == "__main__":
    sys.exit(main())
