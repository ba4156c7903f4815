"""The cost of a sweep on this machine: `python -m benchmarks.sweep [--config FILE] [--random_weights] [--json FILE]`.

1. Reading prompts at every row and token with the norm lens and a tuned lens, against the forward pass of the same
   batches with one bare product with the unembedding for each lens, row and token.
2. The records and CSV files of the same prompts, against reading them.
3. Peak memory against the number of prompts.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks import report, sweep_report
from benchmarks.machine import Machine, describe, load_average, short
from benchmarks.prompts import make_batches, make_reader
from benchmarks.reading import Subject, SweepTime, measure_reading
from benchmarks.settings import make_model
from benchmarks.sweep_memory import SweepMemory, measure_memory
from benchmarks.sweep_settings import SweepSettings, parse
from logos_pl.cli.quiet import silence_third_parties
from logos_pl.errors import InputError, LogosError
from logos_pl.lenses.tuned import TunedLens
from logos_pl.sweeps.reader import PromptReader


class SweepFigures(NamedTuple):
    """Results of a run; what could not be measured is empty, and ``not_measured`` says why."""

    machine: Machine
    repeats: int
    cpu_time: bool
    subject: Subject
    times: list[SweepTime]
    memory: list[SweepMemory]
    not_measured: dict[str, str]


def measure(settings: SweepSettings, arguments: list[str]) -> SweepFigures:
    """Measure times, then peak memory, for every number of prompts.

    Raises:
        LogosError: The model is not available, or the prompts do not fit it.
    """
    load = load_average()
    run = settings.run
    lm = make_model(settings.model, run, settings.vocab_size)
    settings.prompts.check(lm.context_length)
    reader = make_reader(lm, settings.model)
    times = [
        measure_reading(reader, make_batches(settings.prompts, count, lm.vocab_size), run.repeats, run.clock)
        for count in settings.prompts.counts
    ]
    not_measured: dict[str, str] = {}
    memory: list[SweepMemory] = []
    try:
        memory = [measure_memory(settings, arguments, reader, count) for count in settings.prompts.memory_counts]
    except InputError as error:
        not_measured["memory"] = str(error)
    machine = describe(lm.device, load)
    return SweepFigures(machine, run.repeats, run.cpu_time, _subject(reader, settings), times, memory, not_measured)


def _subject(reader: PromptReader, settings: SweepSettings) -> Subject:
    lm, tuned = reader.lm, reader.lenses["tuned"]
    assert isinstance(tuned, TunedLens)
    return Subject(
        lm.model_id,
        lm.num_blocks,
        lm.d_model,
        lm.vocab_size,
        short(lm.dtype),
        short(tuned.head.unembedding.weight.dtype),
        tuned.translators.rank,
        reader.block_bytes // 2**20,
        settings.prompts.min_tokens,
        settings.prompts.max_tokens,
    )


def text(figures: SweepFigures) -> str:
    """The tables, with the machine."""
    parts = [
        report.machine_lines(figures.machine, figures.repeats, figures.cpu_time),
        f"{sweep_report.subject_lines(figures.subject)}\n\n{sweep_report.reading_table(figures.times)}",
        sweep_report.records_table(figures.times),
        sweep_report.memory_table(figures.memory, figures.not_measured.get("memory")),
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
        print(f"benchmarks.sweep: {error}", file=sys.stderr)
        return error.exit_status
    print(text(figures))
    if settings.run.json is not None:
        Path(settings.run.json).write_text(json.dumps(report.plain(figures), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
