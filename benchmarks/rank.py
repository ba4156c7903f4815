"""What a small lens loses: lenses of several ranks trained on the same residuals, each position read once for all.

    python -m benchmarks.rank --json demo_rank.json --png docs/img/rank_demo.png --seq_len 128

Each lens is trained as by `logos-pl fit` with `--model.rank` and no bias-only lens, on the same text in the same steps;
what is shared is the frozen model's pass over the training text. The opening is read once for each rank.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from matplotlib.figure import Figure

from benchmarks.curves import save_figure
from benchmarks.evaluation import unseen_sequences
from benchmarks.quality import HeldOut, choose, evaluate, name_of, read_held_out
from benchmarks.report import table
from benchmarks.timing import elapsed
from logos_pl.cli.quiet import silence_third_parties
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import LogosError
from logos_pl.fit.closed_form import OpeningText, closed_form_start
from logos_pl.fit.module import TuningModule
from logos_pl.functional.budget import opening_sequences, sequences_set_aside
from logos_pl.io.progress import Progress
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import NormLens
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.model_shape import model_shape
from logos_pl.lm.residuals import Request, gather
from logos_pl.settings.lens import TuningSettings
from logos_pl.settings.resolve import resolve_text, resolve_tuning
from logos_pl.settings.text import TrainingTextSettings


class Trained(NamedTuple):
    """A lens and its cost.

    Attributes:
        module: Its module.
        seconds: Of its start and its own part of the steps.
    """

    module: TuningModule
    seconds: float


def train_ranks(lm: FrozenLM, settings: TuningSettings, data: TrainingText, ranks: list[int]) -> list[Trained]:
    """Lenses of several ranks, each with the steps that a fit of it alone would take.

    Args:
        lm: The frozen model.
        settings: Options of lens and training, every `auto` resolved; the rank is replaced.
        data: The text; a step is one micro-batch.
        ranks: The ranks.
    """
    steps, step_seqs = data.total_steps, int(data.settings.effective_batch_seqs)
    inner = [*range(1, lm.num_blocks + 1)]
    modules, optimizers, seconds = [], [], [0.0] * len(ranks)
    for number, rank in enumerate(ranks):
        began = elapsed(lm.device)
        module = begun(lm, replace(settings, rank=rank, bias_only=False), data)
        modules.append(module)
        optimizers.append(cast(dict[str, Any], module.configure_optimizers()))
        seconds[number] += elapsed(lm.device) - began
    with Progress("step", steps) as progress:
        for step, (batch, _) in enumerate(data.opening(steps * step_seqs), start=1):
            (found,) = gather(lm, [Request(batch.input_ids, batch.positions, inner)])
            for number, (module, made) in enumerate(zip(modules, optimizers, strict=True)):
                began = elapsed(lm.device)
                module.training_step(batch._replace(residuals=found), 0)["loss"].backward()
                made["optimizer"].step()
                made["optimizer"].zero_grad()
                made["lr_scheduler"]["scheduler"].step()
                module.update_averages(step)
                seconds[number] += elapsed(lm.device) - began
            progress.advance()
    return [Trained(*pair) for pair in zip(modules, seconds, strict=True)]


def begun(lm: FrozenLM, settings: TuningSettings, data: TrainingText) -> TuningModule:
    """A module at its closed-form start."""
    module = TuningModule(settings).to(lm.device)
    module.build(lm)
    module.to(lm.device)
    module.trainer = cast(Any, _Steps(data))
    text = data.settings
    total = opening_sequences(data.total_steps, int(text.effective_batch_seqs), text.lanes, text.seq_len, lm.d_model)
    aside = sequences_set_aside(total, text.lanes)

    def opening() -> Iterator[OpeningText]:
        for batch, numbers in data.opening(total):
            yield OpeningText(batch.input_ids, [number >= total - aside for number in numbers])

    with Progress(f"closed-form start of rank {settings.rank}"):
        start = closed_form_start(
            lm, module.head, opening, int(settings.rank), num_set_aside=aside, temperature=settings.temperature,
            seed=module.seed, block_bytes=settings.block_bytes,
        )  # fmt: skip
    module.begin_at(start)
    return module


class _Steps:
    """What a module asks of its trainer outside of a fit: the number of steps."""

    def __init__(self, data: TrainingText) -> None:
        self.datamodule = data


def figures_of(lm: FrozenLM, held_out: HeldOut, trained: list[Trained], tokens: int) -> dict[str, Any]:
    """KL by rank with its cost, and of the norm lens."""
    ranks = {}
    for lens in trained:
        translators = lens.module.average("translators")
        ranks[str(translators.rank)] = {
            "parameters": sum(part.numel() for part in translators.parameters()),
            "seconds": lens.seconds,
            "kl_bits": evaluate(lm, TunedLens(translators, lens.module.head), held_out),
        }
    facts = {"model": lm.model_id, "width": lm.d_model, "machine": name_of(lm.device), "tokens": tokens}
    return facts | {"norm_kl_bits": evaluate(lm, NormLens(Head(lm.anatomy)), held_out), "ranks": ranks}


def rank_table(figures: dict[str, Any]) -> str:
    """Table of the mean over the inner rows by rank."""
    rows = [["norm lens", "0", "", *_mean(figures["norm_kl_bits"])]]
    for rank, found in figures["ranks"].items():
        full = " (full)" if int(rank) == figures["width"] else ""
        rows.append(
            [f"rank {rank}{full}", f"{found['parameters']:,}", f"{found['seconds']:.0f}", *_mean(found["kl_bits"])]
        )
    seconds = "CPU s of its own" if figures["machine"] == "cpu" else f"s of its own on {figures['machine']}"
    return table(["lens", "parameters", seconds, "KL in bits", "95%"], rows)


def _mean(kl_bits: list[list[float]]) -> list[str]:
    mean, low, high = kl_bits[-1]
    return [f"{mean:.3f}", f"{low:.3f} to {high:.3f}"]


def rank_figure(figures: dict[str, Any]) -> Figure:
    """Held-out KL by rank: the mean over the inner rows with its interval, and single rows."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    ranks = [int(rank) for rank in figures["ranks"]]
    found = [part["kl_bits"] for part in figures["ranks"].values()]
    means, lows, highs = zip(*(kl_bits[-1] for kl_bits in found), strict=True)
    axes.fill_between(ranks, lows, highs, alpha=0.2, color="C0")
    axes.plot(ranks, means, "-o", color="C0", label="mean over rows, 95% interval over documents")
    inner = len(found[0]) - 1
    for colour, percent in (("C1", 25), ("C2", 50), ("C3", 75)):
        row = round(percent / 100 * (inner + 1))
        axes.plot(
            ranks, [kl_bits[row - 1][0] for kl_bits in found], "--", color=colour, label=f"row {row}, {percent}% depth"
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [f"{rank}" if rank < figures["width"] else f"{rank}\nfull" for rank in ranks])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("rank of the translators")
    axes.set_ylabel("KL(final ‖ row) on held-out text, bits")
    axes.set_title(f"{figures['model']}, {figures['tokens']:,} tokens")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def main(arguments: list[str] | None = None) -> int:
    """Train, evaluate, write the file and the picture, and print the table.

    Returns:
        Exit status, as the `logos-pl` command's.
    """
    silence_third_parties()
    given = _parser().parse_args(arguments)
    try:
        device = choose(given.device)
        lm = FrozenLM.load(given.model, dtype=given.dtype, device=device)
        ranks = [lm.d_model if rank == "full" else int(rank) for rank in given.ranks]
        settings = TuningSettings(model_id=given.model, dtype=given.dtype, rank=max(ranks))
        settings = resolve_tuning(settings, "full", model_shape(given.model))
        text = TrainingTextSettings(
            dataset=given.dataset, name=given.name, seq_len=given.seq_len, tokens=given.tokens, val_seqs=1
        )
        text = resolve_text(text, "full", lm.vocab_size)
        data = TrainingText(replace(text, micro_batch_seqs=text.effective_batch_seqs), given.model)
        data.setup("fit")
        held_out = read_held_out(lm, unseen_sequences(text, given.model, given.test_seqs))
        trained = train_ranks(lm, settings, data, sorted(set(ranks)))
        tokens = data.total_steps * int(text.effective_batch_seqs) * text.seq_len
        figures = figures_of(lm, held_out, trained, tokens)
    except LogosError as error:
        print(f"benchmarks.rank: {error}", file=sys.stderr)
        return error.exit_status
    given.json.write_text(json.dumps(figures, indent=1))
    if given.png is not None:
        save_figure(rank_figure(figures), given.png)
    print(rank_table(figures))
    return 0


def _rank(text: str) -> str:
    if text != "full" and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"a rank is a positive number or `full` (got {text})")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="file that the figures are written to")
    parser.add_argument("--png", type=Path, help="picture of KL by rank")
    parser.add_argument("--ranks", type=_rank, nargs="+", default=["16", "64", "full"], help="numbers, or `full`")
    parser.add_argument("--model", default="demo", help="model, as for a fit")
    parser.add_argument("--dataset", default="demo", help="text, as for a fit")
    parser.add_argument("--name", help="configuration of the data set")
    parser.add_argument("--seq_len", type=int, default=512, help="tokens per sequence")
    parser.add_argument("--tokens", type=int, default=100_000, help="budget")
    parser.add_argument("--test_seqs", type=int, default=128, help="held-out sequences, 32 positions each")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where it runs")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="the model's number format")
    return parser


if __name__ == "__main__":
    sys.exit(main())
