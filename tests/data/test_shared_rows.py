import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

import pytest

from logos_pl.data import shared_rows
from logos_pl.data.lanes import LaneCursor, TrainText, lane_parts, lane_sequences
from logos_pl.data.shards import Row, Shard, read_rows
from logos_pl.data.shared_rows import SharedRows
from logos_pl.errors import RunError

Corpus = Callable[..., tuple[Shard, ...]]
Sequences = list[tuple[list[int], LaneCursor]]
LANES = 4


def tokenize(text: str) -> list[int]:
    return [0, *text.encode()]


TEXT = TrainText(tokenize, "text", 0.1, 16)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first row of each reading of a shard."""
    starts: list[int] = []

    def counted(shard: Shard, text_column: str, start: int, stride: object) -> Iterator[Row]:
        starts.append(start)
        return read_rows(shard, text_column, start, stride)

    monkeypatch.setattr(shared_rows, "read_rows", counted)
    monkeypatch.setattr("logos_pl.data.lanes.read_rows", counted)
    return starts


def alone(shards: tuple[Shard, ...], cursors: list[LaneCursor], count: int) -> list[Sequences]:
    return [
        list(islice(lane_sequences(lane_parts(shards, lane, LANES), TEXT, cursor), count))
        for lane, cursor in enumerate(cursors)
    ]


def shared(shards: tuple[Shard, ...], cursors: list[LaneCursor], count: int) -> list[Sequences]:
    """The lanes take turns, as in a worker."""
    parts = [lane_parts(shards, lane, LANES) for lane in range(LANES)]
    rows = SharedRows(list(zip(parts, cursors, strict=True)))
    lanes = [lane_sequences(own, TEXT, cursor, rows.read) for own, cursor in zip(parts, cursors, strict=True)]
    taken: list[Sequences] = [[] for _ in lanes]
    for _ in range(count):
        for lane, sequences in enumerate(lanes):
            taken[lane].append(next(sequences))
    return taken


@pytest.mark.parametrize("num_shards", [1, 2, 3])
@pytest.mark.parametrize("longest", [60, 2])
def test_lanes_that_share_a_reading_get_what_they_would_read_alone(
    corpus: Corpus, num_shards: int, longest: int
) -> None:
    """Over several passes, and going on from any place."""
    shards = corpus(num_shards, 30, longest)
    start = [LaneCursor()] * LANES
    whole = alone(shards, start, 60)
    assert whole[0][-1][1].pass_index > 0
    assert shared(shards, start, 60) == whole
    for done in range(1, 40, 3):
        cursors = [lane[done - 1][1] for lane in whole]
        assert shared(shards, cursors, 20) == [lane[done : done + 20] for lane in whole]


def test_a_shard_is_read_once_in_each_pass_whatever_the_number_of_lanes(corpus: Corpus, readings: list[int]) -> None:
    shards = corpus(1, 60)
    passes = 1 + max(lane[-1][1].pass_index for lane in shared(shards, [LaneCursor()] * LANES, 60))
    assert passes > 1
    assert readings == [0] * passes


def test_a_reading_that_goes_on_begins_where_the_last_of_its_lanes_is(corpus: Corpus, readings: list[int]) -> None:
    shards = corpus(1, 60)
    cursors = [lane[-1][1] for lane in shared(shards, [LaneCursor()] * LANES, 10)]
    readings.clear()
    shared(shards, cursors, 1)
    assert readings == [min(cursor.row for cursor in cursors)]
    assert readings[0] > 0


def test_a_lane_has_a_shard_of_its_own_to_itself(corpus: Corpus, readings: list[int]) -> None:
    shared(corpus(LANES, 20), [LaneCursor()] * LANES, 2)
    assert readings == [0] * LANES


def test_a_lane_that_falls_far_behind_reads_on_by_itself(
    corpus: Corpus, readings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = corpus(1, 60)
    start = [LaneCursor()] * LANES
    whole = alone(shards, start, 40)
    readings.clear()
    monkeypatch.setattr(shared_rows, "MOST_KEPT_CHARS", 40)
    assert shared(shards, start, 40) == whole
    assert len(readings) > 2
    assert Counter(readings)[0] < len(readings), "from where it was, and not from the start"


def test_every_lane_meets_what_stopped_the_reading(corpus: Corpus) -> None:
    shards = corpus(1, 60)
    parts = [lane_parts(shards, lane, LANES) for lane in range(LANES)]
    rows = SharedRows([(own, LaneCursor()) for own in parts])
    os.remove(shards[0].url)
    for (part,) in parts:
        with pytest.raises(RunError, match="vanished before its row 0"):
            next(rows.read(part, "text", 0, 0))
