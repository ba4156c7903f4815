"""Times our training step against that of the `tuned-lens` package: `python -m benchmarks.tuned_lens_package`.

The package's step is that of its `train_loop` (0.2.0): the full model with all hidden states and logits; then, for each
row, its lens, KL(P_final ‖ P_row) over every position and the backward pass; finally, a step of its default optimiser
with clipping. Lens and loss run under autocast to bfloat16, as in the package, and in float32 for comparison. Both use
the same sequences and the same frozen model.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.machine import describe, load_average, short
from benchmarks.report import as_text, machine_lines, ms, plain, table
from benchmarks.settings import make_data, make_model, make_tuning, parse
from benchmarks.step import make_batch, make_training
from benchmarks.timing import Clock, Ratio, alternate, ratio
from logos_pl.cli.quiet import silence_third_parties
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InputError, LogosError
from logos_pl.lm.frozen import FrozenLM
from logos_pl.settings.lens import TuningSettings

PACKAGE = "tuned-lens"
OURS, THEIRS, THEIRS_FP32 = "ours", f"{PACKAGE}, autocast to bfloat16", f"{PACKAGE}, float32"


class PackageStep(NamedTuple):
    """Measurement of one kind of step.

    Attributes:
        name: Implementation and number format.
        rows: Rows trained.
        pairs: (row, position) pairs learned from.
        parameters: Number of trained parameters.
        seconds: Median time.
        to_ours: Ratio to our step, per round; None for ours.
    """

    name: str
    rows: int
    pairs: int
    parameters: int
    seconds: float
    to_ours: Ratio | None


class PackageFigures(NamedTuple):
    """Steps on the same sequences, timed alternately.

    Attributes:
        version: Version of the package.
        model: Its name.
        num_blocks: Its blocks.
        d_model: Its width.
        vocab: Its vocabulary.
        dtype: Its number format.
        seqs: Number of sequences in the batch.
        seq_len: Tokens in each.
        steps: Ours first.
    """

    version: str
    model: str
    num_blocks: int
    d_model: int
    vocab: int
    dtype: str
    seqs: int
    seq_len: int
    steps: list[PackageStep]


def measure_package(
    lm: FrozenLM, tuning: TuningSettings, data: TrainingText, repeats: int, clock: Clock = time.perf_counter
) -> PackageFigures:
    """Time our step with all rows and the package's, alternately.

    Args:
        lm: The frozen model.
        tuning: Training settings, with every `auto` resolved.
        data: The text, with every `auto` resolved.
        repeats: Number of rounds.
        clock: Clock for timing.

    Raises:
        InputError: The package is not installed, or does not support the model.
    """
    made = {name: make_package_lens(lm) for name in (THEIRS, THEIRS_FP32)}
    batch = make_batch(lm, data)
    seqs, seq_len = batch.input_ids.shape
    training = make_training(lm, tuning, lm.num_blocks - 1, batch)
    variants: dict[str, Callable[[], object]] = {
        OURS: partial(training.step, 1),
        THEIRS: make_package_step(lm, made[THEIRS], batch.input_ids, torch.bfloat16),
        THEIRS_FP32: make_package_step(lm, made[THEIRS_FP32], batch.input_ids, None),
    }
    times = alternate(variants, repeats, lm.device, clock=clock)
    ours = lm.num_blocks - 1
    pairs, parameters = ours * batch.positions.numel(), _count(training.module.translators)
    steps = [PackageStep(OURS, ours, pairs, parameters, median(times[OURS]), None)]
    for name, lens in made.items():
        rows, seconds = len(lens), median(times[name])
        pairs = rows * seqs * seq_len
        steps.append(PackageStep(name, rows, pairs, _count(lens), seconds, ratio(times, name, OURS)))
    return PackageFigures(
        version(PACKAGE), lm.model_id, lm.num_blocks, lm.d_model, lm.vocab_size, short(lm.dtype), seqs, seq_len, steps
    )


def make_package_lens(lm: FrozenLM) -> Any:
    """An untrained lens of the package for a model."""
    try:
        package = importlib.import_module("tuned_lens")
    except ImportError as error:
        raise InputError(
            f"The {PACKAGE} package is not installed; `pip install --no-deps --target DIR {PACKAGE}`, remove "
            "DIR/tests, and put DIR on PYTHONPATH."
        ) from error
    try:
        return package.TunedLens.from_model(lm.model).to(lm.device)
    except (NotImplementedError, ValueError) as error:
        raise InputError(f"The {PACKAGE} package has no lens for {lm.model_id} ({error}).") from error


def make_package_step(
    lm: FrozenLM, lens: Any, input_ids: Tensor, autocast: torch.dtype | None
) -> Callable[[], list[float]]:
    """A step of the package's train loop with its defaults; returns the loss of every row in nats.

    Args:
        lm: The frozen model.
        lens: The package's lens.
        input_ids: The sequences; the loss uses every position.
        autocast: Number format of lens and loss under autocast; None: no autocast.
    """
    trained = [parameter for parameter in lens.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)

    def step() -> list[float]:
        losses = []
        with torch.no_grad():
            output = lm.model(input_ids, output_hidden_states=True)
            log_p = output.logits.float().log_softmax(dim=-1)
        for row, state in enumerate(output.hidden_states[:-1]):
            with nullcontext() if autocast is None else torch.autocast(lm.device.type, dtype=autocast):
                log_q = lens(state, idx=row).log_softmax(dim=-1)
                loss = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
            losses.append(loss.item())
            loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        schedule.step()
        return losses

    return step


def _count(trained: Any) -> int:
    return sum(parameter.numel() for parameter in trained.parameters() if parameter.requires_grad)


def package_table(figures: PackageFigures) -> str:
    """Table of the steps."""
    head = (
        f"Training step against that of the {PACKAGE} package ({figures.version}): {figures.model}, "
        f"{figures.num_blocks} blocks, d={figures.d_model},\nV={figures.vocab}, {figures.dtype}; both read the same "
        f"[{figures.seqs}, {figures.seq_len}] tokens, and the package learns from every position."
    )
    rows = [
        [
            step.name, f"{step.rows}", f"{step.pairs:,}", f"{step.parameters:,}", ms(step.seconds),
            "1" if step.to_ours is None else as_text(step.to_ours),
            f"{step.pairs / step.seconds:,.0f}",
        ]
        for step in figures.steps
    ]  # fmt: skip
    return f"{head}\n\n{table(['step', 'rows', 'pairs', 'parameters', 'ms', '/ ours', 'pairs/s'], rows)}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write the results.

    Returns:
        Exit status, as the `logos-pl` command's.
    """
    silence_third_parties()
    load = load_average()
    try:
        settings = parse(arguments)
        run = settings.run
        lm = make_model(settings.model, run, settings.vocab_sizes[-1])
        tuning, data = make_tuning(settings, lm), make_data(settings, lm)
        figures = measure_package(lm, tuning, data, run.repeats, run.clock)
    except LogosError as error:
        print(f"benchmarks.tuned_lens_package: {error}", file=sys.stderr)
        return error.exit_status
    machine = describe(lm.device, load)
    print(machine_lines(machine, run.repeats, run.cpu_time))
    print(f"\n{package_table(figures)}")
    if run.json is not None:
        document = {"machine": plain(machine), "repeats": run.repeats, "package": plain(figures)}
        Path(run.json).write_text(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
