"""Compares our lens with that of the `tuned-lens` package on the same model, text, held-out documents and positions.

    python -m benchmarks.quality --json tiny.json --model FOLDER --dataset FOLDER --name CC-MAIN-2025-26

The package's side is its own lens class, loss (KL of every position, autocast to bfloat16) and optimiser (SGD with
Nesterov momentum at its default rate, gradients clipped, a linear decay), in steps of 32 sequences: its default of
262,144 tokens per step would make four steps of a million. Both read the same text in the same order. CPU time is that
of the process with one thread, so it does not depend on other load.
Results are added to the file as they come; runs that are already in it are skipped.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.evaluation import unseen_sequences
from benchmarks.report import table
from benchmarks.schedules import fit
from benchmarks.tuned_lens_package import PACKAGE, make_package_lens
from logos_pl.artifacts import load_tuned_lens
from logos_pl.cli.quiet import silence_third_parties
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import LogosError
from logos_pl.functional.bootstrap import bootstrap_interval
from logos_pl.functional.divergence import row_divergence
from logos_pl.functional.positions import FIRST_SETTLED_POSITION, sample_positions
from logos_pl.lenses.affine import AffineLens
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


class PackageRun(NamedTuple):
    """The trained lens of the package.

    Attributes:
        lens: Its translators as a lens of this project.
        parameters: Number of parameters.
        tokens: Tokens trained on.
        cpu_seconds: CPU time of reading and training.
    """

    lens: AffineLens
    parameters: int
    tokens: int
    cpu_seconds: float


def train_package(lm: FrozenLM, data: TrainingText, tokens: int) -> PackageRun:
    """Train the package's lens with its recipe on the first part of the text.

    Raises:
        InputError: The package is not installed, or does not support the model.
    """
    began = time.process_time()
    lens = make_package_lens(lm)
    step_tokens = STEP_SEQS * data.settings.seq_len
    steps = max(1, tokens // step_tokens)
    trained = [parameter for parameter in lens.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    accumulated = STEP_SEQS // MICRO_SEQS
    for number, (batch, _) in enumerate(data.opening(steps * STEP_SEQS), start=1):
        _package_gradient(lm, lens, batch.input_ids, accumulated)
        if number % accumulated == 0:
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
            decay.step()
            print(f"{PACKAGE}: step {number // accumulated}/{steps}", file=sys.stderr, flush=True)
    seconds = time.process_time() - began
    weight, bias = (torch.stack([getattr(part, name) for part in lens]) for name in ("weight", "bias"))
    return PackageRun(
        AffineLens(Head(lm.anatomy), weight, bias),
        sum(parameter.numel() for parameter in trained),
        steps * step_tokens,
        seconds,
    )


def _package_gradient(lm: FrozenLM, lens: Any, input_ids: Tensor, accumulated: int) -> None:
    """Accumulate the gradient of a micro-batch as in the package's `train_loop`."""
    with torch.no_grad():
        output = lm.model(input_ids, output_hidden_states=True)
        log_p = output.logits.float().log_softmax(dim=-1)
    for row, state in enumerate(output.hidden_states[:-1]):
        with torch.autocast(lm.device.type, dtype=torch.bfloat16):
            log_q = lens(state, idx=row).log_softmax(dim=-1)
            loss = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
        (loss / accumulated).backward()


class Bench:
    """State shared by all runs, and the file of the results.

    Args:
        given: The command line.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.lm = FrozenLM.load(given.model)
        text = TrainingTextSettings(
            dataset=given.dataset, name=given.name, seq_len=given.seq_len, effective_batch_seqs=STEP_SEQS,
            micro_batch_seqs=MICRO_SEQS, val_seqs=1,
        )  # fmt: skip
        self.data = TrainingText(resolve_text(text, "full", self.lm.vocab_size), given.model)
        self.data.setup("fit")
        self.held_out = read_held_out(self.lm, unseen_sequences(text, given.model, given.test_seqs))
        self.figures: dict[str, Any] = json.loads(given.json.read_text()) if given.json.exists() else {}

    def record(self, name: str, lens: Lens, **facts: float) -> None:
        """Evaluate a lens and record its figures."""
        self.figures[name] = {**facts, "kl_bits": evaluate(self.lm, lens, self.held_out)}
        self.given.json.write_text(json.dumps(self.figures, indent=1))
        print(f"{name}: {self.figures[name]['kl_bits'][-1][0]:.3f} bits", file=sys.stderr, flush=True)

    def ours(self, tokens: int) -> None:
        """Fit our lens with the defaults."""
        name = f"ours, {tokens:,} tokens"
        if name in self.figures:
            return
        given = self.given
        options = [f"model.model_id={given.model}", f"data.dataset={given.dataset}", f"data.seq_len={given.seq_len}"]
        options += [] if given.name is None else [f"data.name={given.name}"]
        with tempfile.TemporaryDirectory() as folder:
            seconds, artifact = fit([*options, f"data.tokens={tokens}", *given.option], Path(folder))
            lens, provenance = load_tuned_lens(artifact, self.lm)
            size = (artifact / "weights.pt").stat().st_size
        facts = {"tokens": provenance.budget.tokens, "parameters": provenance.capacity.parameters, "bytes": size}
        self.record(name, lens, cpu_seconds=seconds, **facts)

    def package(self, name: str, tokens: int) -> None:
        """Train the package's lens."""
        if name in self.figures:
            return
        run = train_package(self.lm, self.data, tokens)
        facts = {"tokens": run.tokens, "parameters": run.parameters, "bytes": 4 * run.parameters}
        self.record(name, run.lens, cpu_seconds=run.cpu_seconds, **facts)

    def run(self) -> None:
        """Run ours first, then the package with the same tokens, the requested tokens and the same CPU time."""
        self.record("norm lens", NormLens(Head(self.lm.anatomy)), tokens=0, parameters=0, bytes=0, cpu_seconds=0)
        for tokens in self.given.tokens:
            self.ours(tokens)
        for tokens in sorted({*self.given.package_tokens}):
            self.package(f"{PACKAGE}, {tokens:,} tokens", tokens)
        measured = [found for name, found in self.figures.items() if name.startswith(PACKAGE)]
        if self.given.equal_time and measured:
            rate = measured[0]["tokens"] / measured[0]["cpu_seconds"]
            for tokens in self.given.tokens:
                seconds = self.figures[f"ours, {tokens:,} tokens"]["cpu_seconds"]
                self.package(f"{PACKAGE}, CPU time of ours at {tokens:,} tokens", int(rate * seconds))


def quality_table(figures: dict[str, Any]) -> str:
    """Table of every row's KL in bits, and the mean with its interval."""
    rows = []
    for name, found in figures.items():
        *bits, (mean, low, high) = found["kl_bits"]
        counts = [f"{found[key]:,.0f}" for key in ("tokens", "cpu_seconds", "parameters", "bytes")]
        rows.append([name, *counts, *(f"{bit[0]:.3f}" for bit in bits), f"{mean:.3f}", f"{low:.3f} to {high:.3f}"])
    inner = len(next(iter(figures.values()))["kl_bits"]) - 1
    return table(
        ["lens", "tokens", "CPU s", "parameters", "bytes", *map(str, range(1, inner + 1)), "mean", "95%"], rows
    )


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
    parser.add_argument("--equal_time", action="store_true", help="the package also at the CPU time of ours")
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
