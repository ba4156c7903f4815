"""Draws at which depth the answers of a sweep's prompts are read, by the norm lens and by another.

logos-pl predict --model.model_id MODEL --data.prompts examples/prompts/capitals.yaml
cd lightning_logs/sweeps/run-latest
python -m benchmarks.answer_depth output-MODEL-pure-next-token.csv output-MODEL-pure-next-token-tuned.csv --png PNG
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median, quantiles

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.curves import save_figure
from logos_pl.errors import InputError, LogosError
from logos_pl.kinds.registry import kind_of
from logos_pl.sweeps.record_csv import read_records
from logos_pl.sweeps.records import NextTokenRecord

RANK = 10
"""An answer counts as read from the first row on at which it is among so many."""

Ranks = dict[str, list[int]]
"""Rank of the answer at every row, by prompt."""


def ranks_of(path: Path) -> tuple[str, Ranks]:
    """The lens of a sweep's file, and its ranks of the answers that the model itself has among its first ``RANK``.

    Raises:
        InputError: The file is not one of next-token records, or has no such answer.
    """
    ranks: Ranks = defaultdict(list)
    lens = None
    for record in read_records(path):
        if not isinstance(record, NextTokenRecord):
            raise InputError(f"{path} has no next-token records: give the file whose name has `pure-next-token`.")
        lens = record.lens
        if record.answer_rank is not None:
            ranks[f"{record.prompt_id} {record.prompt_variant}"].append(record.answer_rank)
    known = {prompt: by_row for prompt, by_row in ranks.items() if by_row[-1] <= RANK}
    if lens is None or not known:
        raise InputError(f"{path} has no answer that the model itself has among its first {RANK}: give other prompts.")
    return lens, known


def first_rows(ranks: Ranks) -> list[int]:
    """The first row of each prompt at which the answer is among the first ``RANK``."""
    return [next(row for row, rank in enumerate(by_row) if rank <= RANK) for by_row in ranks.values()]


def answer_depth_figure(by_lens: dict[str, Ranks], title: str = "") -> Figure:
    """Rank of the answer by row, the median with the middle half, and how many answers are read up to a row."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    rank_axes, share_axes = figure.subplots(1, 2)
    for lens, ranks in by_lens.items():
        kind = kind_of(lens)
        rows = range(len(next(iter(ranks.values()))))
        by_row = list(zip(*ranks.values(), strict=True))
        middle = [quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values * 3] for values in by_row]
        rank_axes.fill_between(rows, [q[0] for q in middle], [q[2] for q in middle], color=kind.colour, alpha=0.15)
        rank_axes.plot(rows, [median(values) for values in by_row], "-o", ms=4, color=kind.colour, label=kind.label)
        first = first_rows(ranks)
        share = [sum(row <= upto for row in first) / len(first) for upto in rows]
        share_axes.plot(rows, share, "-o", ms=4, color=kind.colour, label=f"{kind.label}: median row {median(first):g}")
        share_axes.axvline(median(first), color=kind.colour, ls=":", lw=1)
    _label(rank_axes, "rank of the answer, median and middle half")
    rank_axes.set_yscale("log")
    rank_axes.invert_yaxis()
    _label(share_axes, f"share of answers first among {RANK} by this row")
    share_axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    num = len(next(iter(by_lens.values())))
    figure.suptitle(f"{title} · {num} answers that the model has among its first {RANK}".removeprefix(" · "))
    return figure


def _label(axes: Axes, what: str) -> None:
    axes.set_xlabel("row (0: input of the first block)")
    axes.set_ylabel(what)
    axes.grid(alpha=0.3)
    axes.legend()


def main(arguments: list[str] | None = None) -> int:
    """Draw the picture, and print the median row of each lens.

    Returns:
        Exit status, as the `logos-pl` command's.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, nargs="+", help="next-token files of one sweep, one for each lens")
    parser.add_argument("--png", type=Path, required=True, help="picture to write")
    parser.add_argument("--title", default="", help="its title")
    given = parser.parse_args(arguments)
    try:
        by_lens = dict(map(ranks_of, given.csv))
    except LogosError as error:
        print(f"benchmarks.answer_depth: {error}", file=sys.stderr)
        return error.exit_status
    save_figure(answer_depth_figure(by_lens, given.title), given.png)
    for lens, ranks in by_lens.items():
        rows = first_rows(ranks)
        last = len(next(iter(ranks.values()))) - 1
        print(f"{lens}: {len(rows)} answers, among the first {RANK} from row {median(rows):g} of {last} on (median)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
