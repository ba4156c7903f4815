"""Micro-batches of packed text, prefetched by workers whose errors are raised in the training process."""

import signal
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from logos_pl.data.lanes import LaneCursor, TrainText, lane_parts, trained_sequences
from logos_pl.data.layout import Cursors, Layout, sequences_taken
from logos_pl.data.shards import Shard
from logos_pl.data.shared_rows import PassRows
from logos_pl.errors import LogosError
from logos_pl.functional.positions import sample_positions
from logos_pl.lm.residuals import Residuals


class TextBatch(NamedTuple):
    """A micro-batch.

    Attributes:
        input_ids: Int[batch seq]; packed tokens, no padding.
        positions: Int[batch pos]; sampled positions, sorted within each sequence.
        cursors: Cursors after this batch, of the lanes in it; empty for held-out batches.
        indices: Indices of the held-out sequences; empty for training batches.
        residuals: The model's residual stream, if a streamed model has read ahead.
    """

    input_ids: Int[Tensor, "batch seq"]
    positions: Int[Tensor, "batch pos"]
    cursors: Cursors
    indices: tuple[int, ...] = ()
    residuals: Residuals | None = None


class Chunk(NamedTuple):
    """Consecutive sequences of a worker, each with the cursor after it.

    Attributes:
        input_ids: Packed tokens.
        positions: Sampled positions.
        cursors: Lane and cursor of each sequence.
    """

    input_ids: Int[Tensor, "seqs seq"]
    positions: Int[Tensor, "seqs pos"]
    cursors: list[tuple[int, LaneCursor]]


class Parcel(NamedTuple):
    """A chunk as NumPy arrays, sent from a worker through a pipe.

    Tensors would use shared memory and a socket in TMPDIR; if that is full or its path too long, torch prints a
    traceback in the worker and waits forever.
    """

    input_ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    cursors: list[tuple[int, LaneCursor]]


class Failure(NamedTuple):
    """An error sent from a worker; torch would wrap an exception into a long traceback."""

    kind: type[LogosError]
    message: str


class PositionDraw(NamedTuple):
    """Sampling of positions, determined by seed and sequence index."""

    seed: int
    num_positions: int
    position_range: tuple[float, float]

    def of(self, sequence_index: int, seq_len: int) -> Int[Tensor, " pos"]:
        """Sampled positions of one sequence."""
        return sample_positions(self.seed, sequence_index, seq_len, self.num_positions, self.position_range)


class TrainStream(IterableDataset):
    """Endless chunks of one worker's lanes; `in_order` turns them into micro-batches.

    Args:
        shards: All shards of the dataset.
        text: Tokenisation and held-out split.
        draw: Sampling of positions.
        layout: Assignment of lanes to processes and workers.
        cursors: Start position of each lane of the process.
    """

    def __init__(
        self, shards: tuple[Shard, ...], text: TrainText, draw: PositionDraw, layout: Layout, cursors: Cursors
    ) -> None:
        self.shards = shards
        self.text = text
        self.draw = draw
        self.layout = layout
        self.cursors = cursors

    def __iter__(self) -> Iterator[Chunk | Failure]:
        info = get_worker_info()
        try:
            yield from self.chunks(0 if info is None else info.id)
        except LogosError as error:
            yield Failure(type(error), str(error))

    def chunks(self, slot: int) -> Iterator[Chunk]:
        """Yield the chunks of the worker at `slot`; slot 0 is read first, so it serves the worker whose turn it is.

        One chunk of each worker together make about a micro-batch.
        """
        layout = self.layout
        taken = sequences_taken(layout, self.cursors)
        worker = (slot + taken) % layout.workers
        share, turn = layout.share(worker), -(-(taken - worker) // layout.workers)
        parts = {lane: lane_parts(self.shards, lane, layout.lanes) for lane in share}
        rows = PassRows(self.text, {lane: (parts[lane], self.cursors[lane]) for lane in share})
        streams = [trained_sequences(parts[lane], self.text, self.cursors[lane], rows.read_in) for lane in share]
        while True:
            tokens, positions, cursors = [], [], []
            for _ in range(-(-layout.micro_batch_seqs // layout.workers)):
                lane = share[turn % len(share)]
                ids, cursor = next(streams[turn % len(share)])
                tokens.append(ids)
                positions.append(self.draw.of((cursor.sequences - 1) * layout.lanes + lane, self.text.seq_len))
                cursors.append((lane, cursor))
                turn += 1
            yield Chunk(torch.tensor(tokens, dtype=torch.long), torch.stack(positions), cursors)


def in_order(chunks: Iterable[Chunk], workers: int, micro_batch_seqs: int) -> Iterator[TextBatch]:
    """Yield micro-batches in the order of training, the same for any number of workers.

    Args:
        chunks: Chunks of equal size from all workers in turn.
        workers: Number of workers.
        micro_batch_seqs: Sequences per micro-batch.
    """
    source, rest = iter(chunks), None
    while in_turn := list(islice(source, workers)):
        ids, positions = (torch.stack(parts, dim=1).flatten(0, 1) for parts in list(zip(*in_turn, strict=True))[:2])
        cursors = [cursor for turn in zip(*(chunk.cursors for chunk in in_turn), strict=True) for cursor in turn]
        if rest is not None:
            ids, positions = torch.cat([rest.input_ids, ids]), torch.cat([rest.positions, positions])
            cursors = rest.cursors + cursors
        whole = len(ids) // micro_batch_seqs * micro_batch_seqs
        for first in range(0, whole, micro_batch_seqs):
            part = slice(first, first + micro_batch_seqs)
            yield TextBatch(ids[part], positions[part], dict(cursors[part]))
        rest = Chunk(ids[whole:], positions[whole:], cursors[whole:]) if whole < len(ids) else None


class TrainLoader:
    """Endless training batches; each iteration starts at the current training step.

    An iterable rather than a DataLoader, since Lightning's warnings about the number of workers do not apply here.

    Args:
        make_stream: Returns the stream from the current training step.
        num_workers: Worker processes that read, tokenise and pack; 0: do so in the training process.
        prefetch_factor: Chunks prefetched by each worker.
        pin_memory: Whether batches are copied to page-locked memory, for a faster transfer to CUDA.
    """

    def __init__(
        self, make_stream: Callable[[], TrainStream], num_workers: int, prefetch_factor: int, pin_memory: bool
    ) -> None:
        self.make_stream = make_stream
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self.pin_memory = pin_memory
        self._batches: Generator[TextBatch, None, None] | None = None

    def __iter__(self) -> Iterator[TextBatch]:
        """Yield batches from the current training step with new workers; earlier workers are stopped."""
        self.close()
        self._batches = self._read()
        return self._batches

    def close(self) -> None:
        """Stop the workers at once; garbage collection would take seconds."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def _read(self) -> Generator[TextBatch, None, None]:
        """Yield batches.

        Raises:
            LogosError: A worker failed.
        """
        stream = self.make_stream()
        loader = DataLoader(
            stream,
            batch_size=None,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor if self.num_workers > 0 else None,
            collate_fn=_packed_up,
            worker_init_fn=leave_first_signal_to_training,
        )
        for batch in in_order(_unless_failed(loader), stream.layout.workers, stream.layout.micro_batch_seqs):
            if self.pin_memory:
                batch = batch._replace(input_ids=batch.input_ids.pin_memory(), positions=batch.positions.pin_memory())
            yield batch


def _packed_up(item: Any) -> Parcel | Failure:
    if isinstance(item, Failure):
        return item
    return Parcel(item.input_ids.numpy(), item.positions.numpy(), item.cursors)


def _unless_failed(items: Iterable[Parcel | Failure]) -> Iterator[Chunk]:
    for item in items:
        if isinstance(item, Failure):
            raise item.kind(item.message)
        yield Chunk(torch.from_numpy(item.input_ids), torch.from_numpy(item.positions), item.cursors)


def leave_first_signal_to_training(worker: int) -> None:
    """Make a worker ignore the first SIGINT or SIGTERM, which is sent to the whole process group.

    The training process needs its workers to finish the step and save a checkpoint, and torch treats a worker's death
    as a failure. The second signal ends the worker.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)

    def ignore_once(received: int, frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        signal.signal(number, ignore_once)


class HeldOutBatches:
    """A process's share of the held-out sequences: every `world_size`-th, without duplicates or padding.

    Args:
        sequences: All held-out sequences.
        draw: Sampling of positions.
        micro_batch_seqs: Sequences per batch; the last may have fewer.
        rank: Rank of this process.
        world_size: Number of processes.
    """

    def __init__(
        self, sequences: list[list[int]], draw: PositionDraw, micro_batch_seqs: int, rank: int, world_size: int
    ) -> None:
        mine = range(rank, len(sequences), world_size)
        parts = [mine[start : start + micro_batch_seqs] for start in range(0, len(mine), micro_batch_seqs)]
        self.batches = [
            TextBatch(
                torch.tensor([sequences[i] for i in part], dtype=torch.long),
                torch.stack([draw.of(i, len(sequences[i])) for i in part]),
                {},
                tuple(part),
            )
            for part in parts
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[TextBatch]:
        return iter(self.batches)
