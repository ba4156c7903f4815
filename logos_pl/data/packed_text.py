"""Micro-batches of packed text, read and tokenised ahead of training, and how a worker's failure reaches the user."""

import signal
from collections.abc import Callable, Generator, Iterator
from types import FrameType
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from logos_pl.data.lanes import LaneCursor, TrainText, lane_parts, lane_sequences
from logos_pl.data.layout import Cursors, Layout, sequences_taken
from logos_pl.data.shards import Shard
from logos_pl.errors import LogosError
from logos_pl.functional.positions import sample_positions


class TextBatch(NamedTuple):
    """A micro-batch.

    Attributes:
        input_ids: Int[batch seq]; packed tokens, no padding.
        positions: Int[batch pos]; the positions that are learned from or measured, sorted in each sequence.
        cursors: Each touched lane's cursor after this batch; empty for held-out batches.
        indices: Which held-out sequences these are; empty for training batches.
    """

    input_ids: Int[Tensor, "batch seq"]
    positions: Int[Tensor, "batch pos"]
    cursors: Cursors
    indices: tuple[int, ...] = ()


class Failure(NamedTuple):
    """An error on its way from a worker: torch would wrap the exception itself into pages of traceback."""

    kind: type[LogosError]
    message: str


class PositionDraw(NamedTuple):
    """How positions are drawn: sequence g of seed s always has the same ones."""

    seed: int
    num_positions: int
    position_range: tuple[float, float]

    def of(self, sequence_index: int, seq_len: int) -> Int[Tensor, " pos"]:
        """The positions of one sequence."""
        return sample_positions(self.seed, sequence_index, seq_len, self.num_positions, self.position_range)


class TrainStream(IterableDataset):
    """Endless micro-batches of one worker's lanes.

    Args:
        shards: Every shard of the dataset.
        text: How text becomes tokens.
        draw: How positions are drawn.
        layout: Who reads what.
        cursors: Where each of the process's lanes starts.
    """

    def __init__(
        self, shards: tuple[Shard, ...], text: TrainText, draw: PositionDraw, layout: Layout, cursors: Cursors
    ) -> None:
        self.shards = shards
        self.text = text
        self.draw = draw
        self.layout = layout
        self.cursors = cursors

    def __iter__(self) -> Iterator[TextBatch | Failure]:
        info = get_worker_info()
        try:
            yield from self.batches(0 if info is None else info.id)
        except LogosError as error:
            yield Failure(type(error), str(error))

    def batches(self, slot: int) -> Iterator[TextBatch]:
        """The batches of the worker in place `slot`; slot 0 is asked first, so it takes the worker whose turn it is."""
        layout = self.layout
        taken = [sequences_taken(layout, worker, self.cursors) for worker in range(layout.workers)]
        worker = (slot + sum(taken) // layout.micro_batch_seqs) % layout.workers
        share, turn = layout.share(worker), taken[worker]
        streams = [self._lane(lane) for lane in share]
        while True:
            tokens, positions, cursors = [], [], {}
            for _ in range(layout.micro_batch_seqs):
                lane = share[turn % len(share)]
                ids, cursor = next(streams[turn % len(share)])
                tokens.append(ids)
                positions.append(self.draw.of((cursor.sequences - 1) * layout.lanes + lane, self.text.seq_len))
                cursors[lane] = cursor
                turn += 1
            yield TextBatch(torch.tensor(tokens, dtype=torch.long), torch.stack(positions), cursors)

    def _lane(self, lane: int) -> Iterator[tuple[list[int], LaneCursor]]:
        return lane_sequences(lane_parts(self.shards, lane, self.layout.lanes), self.text, self.cursors[lane])


class TrainLoader:
    """Endless training batches; each time it is iterated it goes on from where training stands.

    A plain iterable rather than a DataLoader: Lightning needs no more, and its advice about the number of workers,
    meant for image folders, is wrong here.

    Args:
        make_stream: The stream from where training stands now.
        num_workers: Worker processes that read, tokenise and pack ahead; 0 does it in the training process.
        prefetch_factor: Batches each worker keeps ready.
        pin_memory: Whether batches are put into page-locked memory, for a faster copy to CUDA.
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
        """Batches from where training stands, from fresh workers; those of an earlier pass are stopped."""
        self.close()
        self._batches = self._read()
        return self._batches

    def close(self) -> None:
        """Stops the workers; left to the garbage collector, they can take seconds to notice."""
        if self._batches is not None:
            self._batches.close()
            self._batches = None

    def _read(self) -> Generator[TextBatch, None, None]:
        """Batches.

        Raises:
            LogosError: What a worker met, as if it had been met here.
        """
        loader = DataLoader(
            self.make_stream(),
            batch_size=None,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor if self.num_workers > 0 else None,
            pin_memory=self.pin_memory,
            worker_init_fn=leave_first_signal_to_training,
        )
        for item in loader:
            if isinstance(item, Failure):
                raise item.kind(item.message)
            yield item


def leave_first_signal_to_training(worker: int) -> None:
    """Keep a worker reading after the first Ctrl-C or SIGTERM, which reaches the whole process group.

    The training process finishes its step and saves a checkpoint; it needs its workers for that, and torch takes a
    worker's death for a failure. The second signal ends the worker as usual.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)

    def ignore_once(received: int, frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        signal.signal(number, ignore_once)


class HeldOutBatches:
    """A process's share of the held-out sequences: every `world_size`-th, none twice and none padded.

    Args:
        sequences: The whole held-out set.
        draw: How positions are drawn.
        micro_batch_seqs: Sequences in one batch; the last may have fewer.
        rank: This process.
        world_size: Processes.
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
