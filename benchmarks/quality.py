"""Compares our lens with that of the `tuned-lens` package on the same model, text, held-out documents and positions.

    python -m benchmarks.quality --json tiny.json --model FOLDER --dataset FOLDER --name CC-MAIN-2025-26

The package's side (`benchmarks.package_recipe`) makes steps of 32 sequences: its default of 262,144 tokens per step
would make four steps of a million. Both read the same text in the same order.
Both run on a CUDA GPU if there is one, else on the CPU, with the model in float32. On the CPU, times are CPU times of
the process with one thread, so they do not depend on other load; on a GPU they are of the wall clock.
Results are added to the file as they come; runs that are already in it are skipped.
"""

import argparse
import json
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.evaluation import unseen_sequences
from benchmarks.package_recipe import train_package
from benchmarks.report import table
from benchmarks.schedules import fit
from benchmarks.tuned_lens_package import PACKAGE
from logos_pl.artifacts import load_tuned_lens
from logos_pl.cli.quiet import silence_third_parties
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InputError, LogosError
from logos_pl.functional.bootstrap import bootstrap_interval
from logos_pl.functional.divergence import row_divergence
from logos_pl.functional.positions import FIRST_SETTLED_POSITION, sample_positions
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from logos_pl.settings.resolve import resolve_text
from logos_pl.settings.text import TrainingTextSettings

SEED = -3  # for sampling positions; not used by any fit or validation
POSITIONS = 32
STEP_SEQS, MICRO_SEQS = 32, 8


class HeldOut(NamedTuple):
    """Held-out text, read once.

    Attributes:
        h: Residuals of rows 1 … n.
        documents: Document index of each position.
    """

    h: Float[Tensor, "rows pos d_model"]
    documents: Int[Tensor, "pos"]


def read_held_out(lm: FrozenLM, ids: Int[Tensor, "batch seq"]) -> HeldOut:
    """Residuals of every row at some positions of packed sequences."""
    assert lm.tokenizer is not None
    seq_len = ids.shape[1]
    span = FIRST_SETTLED_POSITION / seq_len, 1.0
    at = torch.stack([sample_positions(SEED, g, seq_len, POSITIONS, span) for g in range(len(ids))])
    rows = list(range(1, lm.num_blocks + 1))
    parts = zip(ids.split(MICRO_SEQS), at.split(MICRO_SEQS), strict=True)
    h = torch.cat([residuals(lm, some, places, rows).flatten(1, 2) for some, places in parts], dim=1)
    return HeldOut(h, documents_of(ids, lm.tokenizer.bos_token_id).gather(1, at).flatten())


def documents_of(ids: Int[Tensor, "batch seq"], bos: int | None) -> Int[Tensor, "batch seq"]:
    """Document index of each token: packed from left to right, each begins with the BOS token.

    Of a tokenizer without one, every sequence counts as a document.
    """
    begins = torch.zeros_like(ids) if bos is None else (ids == bos).long()
    if not begins.any():
        begins[:, 0] = 1
    return begins.flatten().cumsum(0).view_as(ids)


@torch.no_grad()
def evaluate(lm: FrozenLM, lens: Lens, held_out: HeldOut) -> list[list[float]]:
    """KL(P_final‖P_row) in bits at rows 1 … n − 1 and their mean: estimate and both ends of the 95% interval."""
    rows = list(range(1, lm.num_blocks + 1))
    parts = []
    for h in held_out.h.split(512, dim=1):
        x, inv_tau = lens.decode_inputs(h, rows)
        parts.append(row_divergence(x[:-1], x[-1], inv_tau[:-1], lens.head.unembedding).kl_from_final_bits)
    bits = torch.cat(parts, dim=1).double().cpu()
    intervals = [bootstrap_interval(row, "mean", clusters=held_out.documents) for row in [*bits, bits.mean(dim=0)]]
    return [[found.estimate, found.low, found.high] for found in intervals if found is not None]


class Bench:
    """State shared by all runs, and the file of the results.

    Args:
        given: The command line.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.figures: dict[str, Any] = json.loads(given.json.read_text()) if given.json.exists() else {}
        self.lm = FrozenLM.load(given.model, dtype=given.dtype, device=choose(given.device))
        self.machine = name_of(self.lm.device)
        refuse_other_machine(self.figures, self.machine, given.json)
        text = TrainingTextSettings(
            dataset=given.dataset, name=given.name, seq_len=given.seq_len, effective_batch_seqs=given.package_step_seqs,
            micro_batch_seqs=min(MICRO_SEQS, given.package_step_seqs), val_seqs=1,
        )  # fmt: skip
        self.data = TrainingText(resolve_text(text, "full", self.lm.vocab_size), given.model)
        self.data.setup("fit")
        self.held_out = read_held_out(self.lm, unseen_sequences(text, given.model, given.test_seqs))

    def record(self, name: str, lens: Lens, **facts: float) -> None:
        """Evaluate a lens and record its figures."""
        self.figures[name] = {**facts, "machine": self.machine, "kl_bits": evaluate(self.lm, lens, self.held_out)}
        self.given.json.write_text(json.dumps(self.figures, indent=1))
        print(f"{name}: {self.figures[name]['kl_bits'][-1][0]:.3f} bits", file=sys.stderr, flush=True)

    def ours(self, tokens: int) -> None:
        """Fit our lens with the defaults, but without bias-only lens and early stopping.

        Raises:
            InputError: The folder that it is to be kept in is there.
        """
        name = f"ours, {tokens:,} tokens"
        if name in self.figures:
            return
        given = self.given
        options = [f"model.model_id={given.model}", f"data.dataset={given.dataset}", f"data.seq_len={given.seq_len}"]
        options += [f"model.dtype={given.dtype}", *([] if given.name is None else [f"data.name={given.name}"])]
        if given.keep is not None and (given.keep / f"{tokens}").exists():
            raise InputError(f"{given.keep / str(tokens)} is there already; give another folder with --keep.")
        with tempfile.TemporaryDirectory() if given.keep is None else nullcontext(given.keep / f"{tokens}") as folder:
            seconds, artifact = fit([*options, f"data.tokens={tokens}", *given.option], Path(folder), self.lm.device)
            lens, provenance = load_tuned_lens(artifact, self.lm)
            size = (artifact / "weights.pt").stat().st_size
        facts = {"tokens": provenance.budget.tokens, "parameters": provenance.capacity.parameters, "bytes": size}
        self.record(name, lens, seconds=seconds, **facts)

    def package(self, what: str, tokens: int) -> None:
        """Train the package's lens."""
        name = package_name(what, self.given.package_step_seqs)
        if name in self.figures:
            return
        run = train_package(self.lm, self.data, tokens)
        facts = {"tokens": run.tokens, "parameters": run.parameters, "bytes": 4 * run.parameters}
        self.record(name, run.lens, seconds=run.seconds, **facts)

    def run(self) -> None:
        """Run ours first, then the package with the same tokens, the requested tokens and the same time."""
        self.record("norm lens", NormLens(Head(self.lm.anatomy)), tokens=0, parameters=0, bytes=0, seconds=0)
        for tokens in self.given.tokens:
            self.ours(tokens)
        wanted = sorted({*self.given.package_tokens})
        for tokens in wanted:
            self.package(f"{tokens:,} tokens", tokens)
        measured = [self.figures[package_name(f"{tokens:,} tokens", self.given.package_step_seqs)] for tokens in wanted]
        if self.given.equal_time and measured:
            rate = measured[-1]["tokens"] / measured[-1]["seconds"]
            for tokens in self.given.tokens:
                seconds = self.figures[f"ours, {tokens:,} tokens"]["seconds"]
                self.package(f"time of ours at {tokens:,} tokens", int(rate * seconds))


def package_name(what: str, step_seqs: int) -> str:
    """Name of a run of the package, with the sequences of its steps if they are not the usual ones."""
    return f"{PACKAGE}, {what}" + ("" if step_seqs == STEP_SEQS else f", steps of {step_seqs}")


def quality_table(figures: dict[str, Any]) -> str:
    """Table of every row's KL in bits, and the mean with its interval."""
    rows = []
    for name, found in figures.items():
        *bits, (mean, low, high) = found["kl_bits"]
        counts = [f"{found[key]:,.0f}" for key in ("tokens", "seconds", "parameters", "bytes")]
        rows.append([name, *counts, *(f"{bit[0]:.3f}" for bit in bits), f"{mean:.3f}", f"{low:.3f} to {high:.3f}"])
    first = next(iter(figures.values()))
    inner, seconds = len(first["kl_bits"]) - 1, "CPU s" if first["machine"] == "cpu" else f"s on {first['machine']}"
    return table(
        ["lens", "tokens", seconds, "parameters", "bytes", *map(str, range(1, inner + 1)), "mean", "95%"], rows
    )


def choose(device: str) -> torch.device:
    """The device named; for ``auto`` a CUDA GPU if there is one.

    Raises:
        InputError: There is no CUDA GPU.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise InputError("--device cuda: there is no CUDA GPU here; choose `cpu`.")
    return torch.device("cuda" if available and device != "cpu" else "cpu")


def name_of(device: torch.device) -> str:
    """``cpu``, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def refuse_other_machine(figures: dict[str, Any], machine: str, path: Path) -> None:
    """Check that recorded figures are of this device: times of two devices cannot be compared.

    Raises:
        InputError: Some are of another device.
    """
    others = sorted({found["machine"] for found in figures.values()} - {machine})
    if others:
        raise InputError(f"{path} holds figures of {others[0]}, and this is {machine}; give another file with --json.")


def main(arguments: list[str] | None = None) -> int:
    """Run what is not yet in the file, and print the table.

    Returns:
        Exit status, as the `logos-pl` command's.
    """
    silence_third_parties()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="file that figures are added to")
    parser.add_argument("--model", default="demo", help="model, as for a fit")
    parser.add_argument("--dataset", default="demo", help="text, as for a fit")
    parser.add_argument("--name", help="configuration of the data set")
    parser.add_argument("--seq_len", type=int, default=512, help="tokens per sequence")
    parser.add_argument("--test_seqs", type=int, default=256, help="held-out sequences, 32 positions each")
    parser.add_argument("--tokens", type=int, nargs="*", default=[100_000, 1_000_000], help="budgets of ours")
    parser.add_argument("--package_tokens", type=int, nargs="*", default=[100_000, 1_000_000], help="its budgets")
    parser.add_argument("--package_step_seqs", type=int, default=STEP_SEQS, choices=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--keep", type=Path, help="folder for our lenses, by budget; else they are deleted")
    parser.add_argument("--equal_time", action="store_true", help="the package also with the time of ours")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="where both run")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="the model's number format")
    parser.add_argument("--option", nargs="*", default=[], help="further options of our fits, such as model.rank=128")
    given = parser.parse_args(arguments)
    try:
        bench = Bench(given)
        bench.run()
    except LogosError as error:
        print(f"benchmarks.quality: {error}", file=sys.stderr)
        return error.exit_status
    print(quality_table(bench.figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
