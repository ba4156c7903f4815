"""Peak memory of a sweep in addition to the model: reading, records and CSV files, written batch by batch."""

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.peak import peak_here, peaks_apart
from benchmarks.prompts import PromptSetting, make_batches, make_reader, tokens_in
from benchmarks.reading import records, write
from benchmarks.settings import make_model
from benchmarks.sweep_settings import SweepSettings, parse
from logos_pl.data.prompts import PromptBatch
from logos_pl.sweeps.reader import PromptReader


class SweepMemory(NamedTuple):
    """Peak bytes in addition to the model for a number of prompts, with the tokens in the largest batch."""

    prompts: int
    batches: int
    tokens: int
    tokens_in_largest_batch: int
    peak_bytes: int


def measure_memory(settings: SweepSettings, arguments: list[str], reader: PromptReader, count: int) -> SweepMemory:
    """Measure one number of prompts.

    Args:
        settings: Settings of the run.
        arguments: The command line, for a child process.
        reader: Used if memory is measured in this process.
        count: Number of prompts.

    Raises:
        InputError: Memory cannot be measured on this device.
        RunError: The measuring process died.
    """
    made = make_batches(settings.prompts, count, reader.lm.vocab_size)
    if reader.lm.device.type == "cuda":
        peak = peak_of_sweep(reader, made)
    else:
        words = [str(count), str(torch.get_num_threads()), *arguments]
        (peak,) = peaks_apart("benchmarks.sweep_memory", words, reader.lm.device)
    return SweepMemory(count, len(made), tokens_in(made), max(tokens_in([batch]) for batch in made), peak)


def peak_of_sweep(reader: PromptReader, made: list[PromptBatch]) -> int:
    """Measure in this process, in addition to the model and the tokens."""
    few = PromptSetting(min_tokens=2, max_tokens=2)
    _sweep(
        reader, make_batches(few, 1, reader.lm.vocab_size)
    )  # excludes library workspaces and code from the measurement
    return peak_here(lambda: _sweep(reader, made), reader.lm.device)


def _sweep(reader: PromptReader, made: list[PromptBatch]) -> None:
    with tempfile.TemporaryDirectory(prefix="logos-pl-sweep-") as folder:
        write(records(map(reader.read, made)), reader.lenses, Path(folder))


def main(count: str, threads: str, *arguments: str) -> None:
    """Print the peak, in bytes."""
    torch.set_num_threads(int(threads))
    settings = parse(list(arguments))
    lm = make_model(settings.model, settings.run, settings.vocab_size)
    made = make_batches(settings.prompts, int(count), lm.vocab_size)
    print(peak_of_sweep(make_reader(lm, settings.model), made))


if __name__ == "__main__":
    main(*sys.argv[1:])
