"""The cost of a fit on this machine: `python -m benchmarks.fit [--config FILE] [--random_weights] [--json FILE]`.

1. The training step against the forward pass of the frozen model's body, time and memory, at several vocabularies.
2. The lens loss against the same loss with materialised logits, time and peak memory.
3. The data pipeline against the training step.
4. The step of the `tuned-lens` package on the same sequences, if it is installed.
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
from benchmarks.settings import Settings, make_data, make_model, make_tuning, parse
from benchmarks.step import StepFigures, measure_step
from benchmarks.step_memory import StepMemory
from benchmarks.step_memory import measure_memory as measure_step_memory
from benchmarks.tuned_lens_package import PackageFigures, measure_package, package_table
from logos_pl.cli.quiet import silence_third_parties
from logos_pl.errors import InputError, LogosError


class Figures(NamedTuple):
    """Results of a run; what could not be measured is None, and ``not_measured`` says why."""

    machine: Machine
    repeats: int
    cpu_time: bool
    steps: list[StepFigures]
    step_memory: list[StepMemory]
    loss_times: list[LossTime]
    loss_memory: list[LossMemory]
    data: DataFigures | None
    package: PackageFigures | None
    not_measured: dict[str, str]


def measure(settings: Settings, arguments: list[str]) -> Figures:
    """Run all measurements in turn; the data pipeline runs alone and last, and is compared with the fastest step.

    Args:
        settings: Settings of the run.
        arguments: The command line, for child processes.

    Raises:
        LogosError: The model is not available.
    """
    load, run, loss = load_average(), settings.run, settings.loss
    not_measured: dict[str, str] = {}
    steps, step_memory = [], []
    for vocab_size in settings.vocab_sizes:
        lm = make_model(settings.model, run, vocab_size)
        tuning, data = make_tuning(settings, lm), make_data(settings, lm)
        steps.append(measure_step(lm, tuning, data, run.repeats, run.clock))
        try:
            step_memory.append(measure_step_memory(settings, arguments, lm, vocab_size))
        except InputError as error:
            not_measured["memory"] = str(error)
    package = None
    try:
        package = measure_package(lm, tuning, data, run.repeats, run.clock)
    except InputError as error:
        not_measured["package"] = str(error)
    device, head_dtype = lm.device, getattr(torch, steps[-1].head_dtype)
    del lm  # the losses need its memory
    times = [measure_times(loss, vocab, device, head_dtype, run.repeats, run.clock) for vocab in loss.vocab_sizes]
    memory = []
    if "memory" not in not_measured:
        memory = [measure_memory(loss, vocab, device, head_dtype) for vocab in loss.memory_vocab_sizes]
    pipeline = None
    try:
        pipeline = measure_data(data, run.repeats, max(step.steps[-1].tokens_per_s for step in steps))
    except LogosError as error:
        not_measured["data"] = str(error)
    machine = describe(device, load)
    return Figures(
        machine, run.repeats, run.cpu_time, steps, step_memory, times, memory, pipeline, package, not_measured
    )


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
        report.machine_lines(figures.machine, figures.repeats, figures.cpu_time),
        *map(report.step_table, figures.steps),
        report.step_memory_table(figures.step_memory),
        report.loss_table(figures.loss_times, figures.loss_memory),
        f"Peak memory: not measured. {figures.not_measured['memory']}" if "memory" in figures.not_measured else "",
        data,
        package,
    ]
    return "\n\n".join(filter(None, parts))


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write the results.

    Returns:
        Exit status, as the `logos-pl` command's.
    """
    silence_third_parties()
    words = sys.argv[1:] if arguments is None else arguments
    try:
        settings = parse(words)
        figures = measure(settings, words)
    except LogosError as error:
        print(f"benchmarks.fit: {error}", file=sys.stderr)
        return error.exit_status
    print(text(figures))
    if settings.run.json is not None:
        Path(settings.run.json).write_text(json.dumps(report.plain(figures), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
