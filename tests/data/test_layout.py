import re

import pytest

from logos_pl.data.lanes import LaneCursor
from logos_pl.data.layout import Layout, check_layout, sequences_taken
from logos_pl.errors import InputError


def layout(rank: int = 0, world_size: int = 1, workers: int = 1, *, lanes: int = 8, micro: int = 2) -> Layout:
    return Layout(lanes, rank, world_size, workers, micro, effective_batch_seqs=16)


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("workers", [1, 2])
def test_every_lane_has_one_reader(world_size: int, workers: int) -> None:
    shares = [
        layout(rank, world_size, workers).share(worker) for rank in range(world_size) for worker in range(workers)
    ]
    assert sorted(lane for share in shares for lane in share) == list(range(8))
    for rank in range(world_size):
        own = [lane for worker in range(workers) for lane in layout(rank, world_size, workers).share(worker)]
        assert sorted(own) == layout(rank, world_size, workers).owned()
        assert all(lane % world_size == rank for lane in own)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            layout(world_size=3),
            "8 lanes cannot be divided among 3 processes with 1 workers each; make --data.lanes a mul",
        ),
        (layout(workers=3), "8 lanes cannot be divided among 1 processes with 3 workers each"),
        (layout(lanes=0), "0 lanes cannot be divided"),
        (layout(micro=5), "16 sequences per step cannot be split over 1 processes with micro-batches of 5"),
        (layout(world_size=4, micro=8), "make --data.effective_batch_seqs a multiple of 32."),
    ],
)
def test_what_cannot_be_shared_evenly_is_refused_with_the_option_to_change(bad: Layout, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        check_layout(bad)


def test_what_can_be_shared_evenly_is_accepted() -> None:
    for world_size, workers, micro in [(1, 1, 16), (2, 2, 4), (4, 2, 2), (8, 1, 2), (1, 8, 2), (1, 2, 16)]:
        check_layout(layout(0, world_size, workers, micro=micro))


def test_a_process_has_taken_what_its_lanes_gave_in_turn() -> None:
    for taken in range(20):
        cursors = {lane: LaneCursor(sequences=len(range(lane, taken, 8))) for lane in range(8)}
        assert sequences_taken(layout(), cursors) == taken


def test_lanes_that_were_not_read_in_turn_are_refused() -> None:
    cursors = {lane: LaneCursor(sequences=3 if lane == 4 else 1) for lane in range(8)}
    with pytest.raises(InputError, match=r"inside an optimiser step; resume it with the same --trainer\.devices"):
        sequences_taken(layout(), cursors)
