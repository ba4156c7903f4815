"""Assignment of lanes to processes and workers, such that the sequences of a step do not depend on their numbers.

Sequence g of the run belongs to lane g % lanes. With R processes of W workers each, process r has the sequences with
g % R = r, and its worker w those with g % (R·W) = r + R·w. If R·W divides `lanes`, these are whole lanes. The process
restores the order of its workers' sequences before it forms micro-batches, so micro-batches are the same for every W.
If R divides the sequences of an optimiser step, steps are the same for every R.
"""

from typing import NamedTuple

from logos_pl.data.lanes import LaneCursor
from logos_pl.errors import InputError

Cursors = dict[int, LaneCursor]


class Layout(NamedTuple):
    """Assignment of lanes to processes and workers.

    Attributes:
        lanes: Number of lanes.
        rank: Rank of this process.
        world_size: Number of processes.
        workers: Workers per process, at least 1.
        micro_batch_seqs: Sequences per micro-batch.
        effective_batch_seqs: Sequences per optimiser step, over all processes.
    """

    lanes: int
    rank: int
    world_size: int
    workers: int
    micro_batch_seqs: int
    effective_batch_seqs: int

    @property
    def readers(self) -> int:
        """Number of workers over all processes."""
        return self.world_size * self.workers

    def owned(self) -> list[int]:
        """Lanes of this process."""
        return list(range(self.rank, self.lanes, self.world_size))

    def share(self, worker: int) -> list[int]:
        """Lanes of one worker of this process, in reading order."""
        return list(range(self.rank + self.world_size * worker, self.lanes, self.readers))


def check_layout(layout: Layout) -> None:
    """Check that lanes and optimiser steps divide evenly among processes and workers.

    Raises:
        InputError: They do not.
    """
    if layout.lanes < 1 or layout.lanes % layout.readers != 0:
        raise InputError(
            f"{layout.lanes} lanes cannot be divided among {layout.world_size} processes with {layout.workers} workers "
            f"each; make --data.lanes a multiple of {layout.readers}, or lower --data.num_workers."
        )
    per_micro_step = layout.world_size * layout.micro_batch_seqs
    if layout.effective_batch_seqs < 1 or layout.effective_batch_seqs % per_micro_step != 0:
        raise InputError(
            f"{layout.effective_batch_seqs} sequences per step cannot be split over {layout.world_size} processes with "
            f"micro-batches of {layout.micro_batch_seqs}; make --data.effective_batch_seqs a multiple of "
            f"{per_micro_step}."
        )


def sequences_taken(layout: Layout, cursors: Cursors) -> int:
    """Number of sequences that this process's lanes have emitted.

    Raises:
        InputError: The lanes were not read in turn, as the cursors are from inside a step with other processes.
    """
    owned = layout.owned()
    taken = sum(cursors[lane].sequences for lane in owned)
    for turn, lane in enumerate(owned):
        if cursors[lane].sequences != (taken + len(owned) - 1 - turn) // len(owned):
            raise InputError(
                "The checkpoint was written inside an optimiser step; resume it with the same --trainer.devices."
            )
    return taken
