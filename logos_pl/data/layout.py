"""Which process reads which lanes, in which order: the sequences of a step never depend on how many there are.

Sequence g of the run belongs to lane g % lanes. With R processes of W workers each, process r has the sequences with
g % R = r, and its worker w those with g % (R·W) = r + R·w. As long as R·W divides `lanes`, these are whole lanes. The
process puts its workers' sequences back in order before it cuts them into micro-batches, so that a micro-batch is the
same for every W; as long as R divides the sequences of an optimiser step, a step's are the same for every R.
"""

from typing import NamedTuple

from logos_pl.data.lanes import LaneCursor
from logos_pl.errors import InputError

Cursors = dict[int, LaneCursor]


class Layout(NamedTuple):
    """How the lanes are shared out.

    Attributes:
        lanes: Lanes of the run.
        rank: This process.
        world_size: Processes.
        workers: Reading workers in each process, at least 1.
        micro_batch_seqs: Sequences in one batch.
        effective_batch_seqs: Sequences in one optimiser step, over all processes.
    """

    lanes: int
    rank: int
    world_size: int
    workers: int
    micro_batch_seqs: int
    effective_batch_seqs: int

    @property
    def readers(self) -> int:
        """Workers of all processes together."""
        return self.world_size * self.workers

    def owned(self) -> list[int]:
        """Lanes of this process."""
        return list(range(self.rank, self.lanes, self.world_size))

    def share(self, worker: int) -> list[int]:
        """Lanes of one worker of this process, in the order in which it takes their sequences."""
        return list(range(self.rank + self.world_size * worker, self.lanes, self.readers))


def check_layout(layout: Layout) -> None:
    """Makes sure that the workers can share lanes and optimiser steps evenly.

    Raises:
        InputError: If they cannot.
    """
    if layout.lanes < 1 or layout.lanes % layout.readers != 0:
        raise InputError(
            f"{layout.lanes} lanes cannot be shared by {layout.world_size} processes with {layout.workers} workers "
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
    """How many sequences this process's lanes have given so far.

    Raises:
        InputError: If they have not been read in turn: the cursors are from inside a step of other processes.
    """
    owned = layout.owned()
    taken = sum(cursors[lane].sequences for lane in owned)
    for turn, lane in enumerate(owned):
        if cursors[lane].sequences != (taken + len(owned) - 1 - turn) // len(owned):
            raise InputError(
                "The checkpoint was written inside an optimiser step; resume it with the same --trainer.devices."
            )
    return taken
