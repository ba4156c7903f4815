"""Times a sweep's reading against a lower bound, and its records and CSV files against the reading."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from benchmarks.flop import count_flop
from benchmarks.prompts import token_string, tokens_in
from benchmarks.timing import Clock, Ratio, Times, alternate, ratio
from logos_pl.data.prompts import PromptBatch
from logos_pl.functional.blocks import spans
from logos_pl.lm.frozen import Forward
from logos_pl.sweeps.reader import BatchReading, PromptReader
from logos_pl.sweeps.record_csv import RecordWriter
from logos_pl.sweeps.recording import records_of
from logos_pl.sweeps.records import NextTokenRecord, PositionRecord, PromptRecords

FORWARD, FLOOR, READ, RECORDS, CSV = "forward", "floor", "read", "records", "csv"


class Subject(NamedTuple):
    """Model, prompts and lenses of the benchmark."""

    model: str
    num_blocks: int
    d_model: int
    vocab: int
    dtype: str
    head_dtype: str
    rank: int
    block_mib: int
    min_tokens: int
    max_tokens: int


class SweepTime(NamedTuple):
    """Times of reading some prompts at every row and token with every lens, and of writing the results.

    Attributes:
        prompts: Number of prompts.
        batches: Number of forward passes.
        tokens: Number of tokens without padding.
        lenses: Number of lenses.
        rows: Number of rows.
        readings: Lenses × rows × tokens.
        forward_seconds: Median time of the body alone, with padding: no head, no hooks.
        floor_seconds: The same with one product with the unembedding for each reading.
        read_seconds: `PromptReader.read`.
        read_to_forward: Ratio of the times.
        read_to_floor: Ratio of the times.
        floor_flop: Operations counted in the matrix products and the attention.
        read_flop: The same for the reading.
        records: Number of records: one per reading of a prompt's own token, and those of the next token.
        csv_bytes: Size of the CSV files.
        records_seconds: `records_of`.
        csv_seconds: Time of writing them to disk with `RecordWriter`.
        records_to_read: Ratio of the times.
        csv_to_read: Ratio of the times.
    """

    prompts: int
    batches: int
    tokens: int
    lenses: int
    rows: int
    readings: int
    forward_seconds: float
    floor_seconds: float
    read_seconds: float
    read_to_forward: Ratio
    read_to_floor: Ratio
    floor_flop: int
    read_flop: int
    records: int
    csv_bytes: int
    records_seconds: float
    csv_seconds: float
    records_to_read: Ratio
    csv_to_read: Ratio


def measure_reading(reader: PromptReader, made: Sequence[PromptBatch], repeats: int, clock: Clock) -> SweepTime:
    """Time everything on the same batches, alternately."""
    readings = [reader.read(batch) for batch in made]
    made_of_them = list(records(readings))
    with tempfile.TemporaryDirectory(prefix="logos-pl-sweep-") as folder:
        variants: dict[str, Callable[[], object]] = {
            FORWARD: lambda: _forward(reader, made),
            FLOOR: _floor(reader, made),
            READ: lambda: [reader.read(batch) for batch in made],
            RECORDS: lambda: list(records(readings)),
            CSV: lambda: write(made_of_them, reader.lenses, Path(folder)),
        }
        counted = {name: count_flop(variants[name]) for name in (FLOOR, READ)}
        times = alternate(variants, repeats, reader.lm.device, clock=clock)
        csv_bytes = sum(path.stat().st_size for path in Path(folder).iterdir())
    return _figures(reader, made, times, counted, made_of_them, csv_bytes)


def _forward(reader: PromptReader, made: Sequence[PromptBatch]) -> None:
    for batch in made:
        reader.lm.run([Forward(batch.input_ids, batch.attention_mask)])


def _floor(reader: PromptReader, made: Sequence[PromptBatch]) -> Callable[[], None]:
    """Forward pass and bare products, in blocks as large as the reader's, into preallocated memory."""
    weight = reader.lenses["norm"].head.unembedding.weight
    vocab, width = weight.shape
    height = max(1, reader.block_bytes // (4 * vocab))
    per_batch = [torch.randn(tokens_in([b]) * len(reader.rows), width).to(weight) for b in made]
    room = torch.empty(min(height, max(map(len, per_batch))), vocab).to(weight)

    def work() -> None:
        for batch, x in zip(made, per_batch, strict=True):
            reader.lm.run([Forward(batch.input_ids, batch.attention_mask)])
            for _ in reader.lenses:
                for part in spans(len(x), height):
                    torch.mm(x[part], weight.T, out=room[: len(x[part])])

    return work


def records(readings: Iterable[BatchReading]) -> Iterator[PromptRecords]:
    """Make the records of every prompt, batch by batch."""
    for reading in readings:
        yield from records_of(reading, token_string, set(), False)


def write(prompts: Iterable[PromptRecords], lenses: Iterable[str], folder: Path) -> None:
    """Write the CSV files of a sweep, two per lens, prompt by prompt."""
    with ExitStack() as stack:
        writers = [
            (
                lens,
                stack.enter_context(RecordWriter(folder / f"records-{lens}.csv", PositionRecord)),
                stack.enter_context(RecordWriter(folder / f"pure-next-token-{lens}.csv", NextTokenRecord)),
            )
            for lens in lenses
        ]
        for prompt in prompts:
            for lens, positions, next_token in writers:
                positions.write(prompt.positions[lens])
                next_token.write(prompt.next_token[lens])


def _figures(
    reader: PromptReader,
    made: Sequence[PromptBatch],
    times: Times,
    counted: dict[str, int],
    prompts: Sequence[PromptRecords],
    csv_bytes: int,
) -> SweepTime:
    tokens, lenses, rows = tokens_in(made), len(reader.lenses), len(reader.rows)
    return SweepTime(
        prompts=len(prompts),
        batches=len(made),
        tokens=tokens,
        lenses=lenses,
        rows=rows,
        readings=lenses * rows * tokens,
        forward_seconds=median(times[FORWARD]),
        floor_seconds=median(times[FLOOR]),
        read_seconds=median(times[READ]),
        read_to_forward=ratio(times, READ, FORWARD),
        read_to_floor=ratio(times, READ, FLOOR),
        floor_flop=counted[FLOOR],
        read_flop=counted[READ],
        records=sum(
            len(listed)
            for prompt in prompts
            for kind in (prompt.positions, prompt.next_token)
            for listed in kind.values()
        ),
        csv_bytes=csv_bytes,
        records_seconds=median(times[RECORDS]),
        csv_seconds=median(times[CSV]),
        records_to_read=ratio(times, RECORDS, READ),
        csv_to_read=ratio(times, CSV, READ),
    )
