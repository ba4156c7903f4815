"""What a fit costs on this machine: `python -m benchmarks.fit [--config FILE] [--random_weights] [--json FILE]`.

1. The training step against the forward pass of the frozen model's body.
2. The lens loss against the same loss with materialised logits, time and peak memory.
3. The data pipeline against the training step.
4. The step of the `tuned-lens` package on the same sequences, where it is installed.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks import report
from benchmarks.data import DataFigures, measure_data
from benchmarks.loss import LossTime, measure_times
from benchmarks.machine import Machine, describe, load_average
from benchmarks.memory import LossMemory, measure_memory
from benchmarks.settings import Settings, make_data, make_model, parse
from benchmarks.step import StepFigures, measure_step
from benchmarks.tuned_lens_package import PackageFigures, measure_package, package_table
from logos_pl.errors import InputError, LogosError
from logos_pl.quiet import silence_third_parties


class Figures(NamedTuple):
    """All of a run; what could not be had is None, and ``not_measured`` says why."""

    machine: Machine
    repeats: int
    step: StepFigures
    loss_times: list[LossTime]
    loss_memory: list[LossMemory]
    data: DataFigures | None
    package: PackageFigures | None
    not_measured: dict[str, str]


def measure(settings: Settings) -> Figures:
    """Measure one after the other; the data alone and last, with its rate set against the step's.

    Raises:
        LogosError: The model cannot be had.
    """
    load, repeats = load_average(), settings.repeats
    lm = make_model(settings.model, settings.random_weights, settings.device)
    data = make_data(settings, lm)
    step = measure_step(lm, settings.model, data, repeats)
    device, head_dtype = lm.device, getattr(torch, step.head_dtype)
    loss = settings.loss
    times = [measure_times(loss, vocab, device, head_dtype, repeats) for vocab in loss.vocab_sizes]
    not_measured: dict[str, str] = {}
    memory: list[LossMemory] = []
    try:
        memory = [measure_memory(loss, vocab, device, head_dtype) for vocab in loss.memory_vocab_sizes]
    except InputError as error:
        not_measured["loss_memory"] = str(error)
    pipeline = None
    try:
        pipeline = measure_data(data, repeats, step.steps[-1].tokens_per_s)
    except LogosError as error:
        not_measured["data"] = str(error)
    package = None
    try:
        package = measure_package(lm, settings.model, data, repeats)
    except InputError as error:
        not_measured["package"] = str(error)
    return Figures(describe(device, load), repeats, step, times, memory, pipeline, package, not_measured)


def text(figures: Figures) -> str:
    """The tables, with the machine."""
    if figures.data is None:
        data = f"The data pipeline: not measured. {figures.not_measured['data']}"
    else:
        data = report.data_table(figures.data)
    if figures.package is None:
        package = f"The step of the tuned-lens package: not measured. {figures.not_measured['package']}"
    else:
        package = package_table(figures.package)
    parts = [
        report.machine_lines(figures.machine, figures.repeats),
        report.step_table(figures.step),
        report.loss_table(figures.loss_times, figures.loss_memory, figures.not_measured.get("loss_memory")),
        data,
        package,
    ]
    return "\n\n".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write.

    Returns:
        Exit status, as the `logos-pl` command's.
    """
    silence_third_parties()
    try:
        settings = parse(arguments)
        figures = measure(settings)
    except LogosError as error:
        print(f"benchmarks.fit: {error}", file=sys.stderr)
        return error.exit_status
    print(text(figures))
    if settings.json is not None:
        Path(settings.json).write_text(json.dumps(report.plain(figures), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
