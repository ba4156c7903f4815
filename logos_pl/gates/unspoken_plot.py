"""Plot of unspoken intermediates: pass@k, and the share that is found at each row. Source: docs/intermediates.md."""

import numpy as np
import torch
from matplotlib.figure import Figure

from logos_pl.functional.pass_at_k import AREA_MAX_K, FOUND_RANK, best_rank, item_means, pass_at
from logos_pl.gates.unspoken_evaluator import UnspokenReadings
from logos_pl.gates.unspoken_figures import ALL, UnspokenFigures
from logos_pl.io.glyphs import drawable
from logos_pl.kinds.registry import kind_of


def unspoken_figure(readings: UnspokenReadings, figures: UnspokenFigures, model_name: str) -> Figure:
    """Plot pass@k against k with 95% intervals, and shares of intermediates and answers at rank ≤ 10 against row."""
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    title = f"{model_name}: unspoken intermediates of {len(readings.items)} prompts"
    figure.suptitle("".join(drawable(title)), parse_math=False)
    ks = np.arange(1, AREA_MAX_K + 1)
    ranked = readings.final_rank <= FOUND_RANK
    for number, (lens, ranks) in enumerate(readings.lenses.items()):
        colour, best = kind_of(lens).colour, best_rank(ranks.intermediates)
        curve = [float(item_means(pass_at(best, int(k)), readings.of_item).mean()) for k in ks]
        left.plot(ks, curve, color=colour, label=lens, drawstyle="steps-post")
        for k, found in figures.lenses[lens].sets[ALL].pass_at.items():
            if found is not None:
                at = k * 1.05 ** (number - len(readings.lenses) / 2)
                # Because of rounding, an interval may exclude its estimate.
                errors = [[max(found.estimate - found.low, 0)], [max(found.high - found.estimate, 0)]]
                left.errorbar(at, found.estimate, yerr=errors, color=colour, capsize=2, linewidth=0.8)
        shown = torch.stack([item_means(pass_at(row, FOUND_RANK), readings.of_item) for row in ranks.intermediates.T])
        right.plot(shown.mean(1).tolist(), "-o", color=colour, markersize=4, label=lens)
        if bool(ranked.any()):
            right.plot((ranks.answers[ranked] <= FOUND_RANK).double().mean(0).tolist(), ":", color=colour)
    left.set_xscale("log")
    left.set_xlabel("k")
    left.set_ylabel("pass@k of the intermediates")
    right.set_xlabel("row (0: input of the first block)")
    right.set_ylabel(f"share at rank ≤ {FOUND_RANK}: intermediates (answers dotted)")
    for axes in (left, right):
        axes.set_ylim(0, 1.02)
        axes.grid(alpha=0.3)
    left.legend()
    return figure
