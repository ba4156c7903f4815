import os
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from logos_pl.data.lanes import LaneCursor, TrainText, lane_parts, lane_sequences
from logos_pl.data.layout import Cursors, Layout
from logos_pl.data.packed_text import HeldOutBatches, PositionDraw, TextBatch, TrainLoader, TrainStream, in_order
from logos_pl.data.shards import Shard
from logos_pl.errors import InputError, RunError
from logos_pl.functional.positions import sample_positions

Corpus = Callable[..., tuple[Shard, ...]]
LANES, SEQ_LEN, EFFECTIVE, MICRO = 8, 16, 16, 2
DRAW = PositionDraw(316, 3, (0.25, 1.0))


def tokenize(text: str) -> list[int]:
    return [0, *text.encode()]


TEXT = TrainText(tokenize, "text", 0.1, SEQ_LEN)


class Run:
    """One process of a training run: takes batches, records their cursors, can stop and go on."""

    def __init__(
        self, shards: tuple[Shard, ...], rank: int = 0, world_size: int = 1, workers: int = 0, micro: int = MICRO
    ) -> None:
        self.layout = Layout(LANES, rank, world_size, max(1, workers), micro, EFFECTIVE)
        self.shards = shards
        self.workers = workers
        self.cursors: Cursors = {lane: LaneCursor() for lane in self.layout.owned()}

    def stream(self) -> TrainStream:
        return TrainStream(self.shards, TEXT, DRAW, self.layout, dict(self.cursors))

    def take(self, count: int, into: list[TextBatch] | None = None) -> list[TextBatch]:
        batches = [] if into is None else into
        with closing(TrainLoader(self.stream, self.workers, 4, pin_memory=False)) as loader:
            for batch in islice(loader, count):
                self.cursors.update(batch.cursors)
                batches.append(batch)
        return batches


def sequences(batches: list[TextBatch]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    return [
        (tuple(ids), tuple(positions))
        for batch in batches
        for ids, positions in zip(batch.input_ids.tolist(), batch.positions.tolist(), strict=True)
    ]


def expected_steps(shards: tuple[Shard, ...], steps: int) -> list[list[tuple[tuple[int, ...], tuple[int, ...]]]]:
    """Each step's sequences by their number g alone: lane g % lanes, the (g // lanes)-th of it."""
    lanes: list[Iterator] = [lane_sequences(lane_parts(shards, lane, LANES), TEXT) for lane in range(LANES)]
    numbered = []
    for g in range(steps * EFFECTIVE):
        ids, _ = next(lanes[g % LANES])
        numbered.append((tuple(ids), tuple(sample_positions(316, g, SEQ_LEN, 3, (0.25, 1.0)).tolist())))
    return [sorted(numbered[step * EFFECTIVE : (step + 1) * EFFECTIVE]) for step in range(steps)]


@pytest.mark.parametrize("num_shards", [3, 9])
@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_every_step_has_the_same_sequences_for_any_number_of_processes_and_workers(
    corpus: Corpus, num_shards: int, world_size: int, workers: int
) -> None:
    shards = corpus(num_shards, 24)
    per_step = EFFECTIVE // world_size // MICRO
    taken = [Run(shards, rank, world_size, workers).take(3 * per_step) for rank in range(world_size)]
    steps = [
        sorted(s for batches in taken for s in sequences(batches[step * per_step : (step + 1) * per_step]))
        for step in range(3)
    ]
    assert steps == expected_steps(shards, 3)


@pytest.mark.parametrize("micro", [1, 3, EFFECTIVE])
@pytest.mark.parametrize("workers", [2, 4])
def test_every_micro_batch_is_the_same_for_any_number_of_workers(corpus: Corpus, micro: int, workers: int) -> None:
    """Also where a step is a single one, as by default on CUDA, and where the workers' sequences do not divide it."""
    shards = corpus(3, 24)
    alone, shared = Run(shards, micro=micro), Run(shards, workers=workers, micro=micro)
    for _ in range(2):
        for one, other in zip(alone.take(3), taken_in_turn(shared, 3), strict=True):
            assert sequences([one]) == sequences([other])
            assert one.cursors == other.cursors


def taken_in_turn(run: Run, count: int) -> list[TextBatch]:
    """As `Run.take`, with the workers in this process."""
    stream = run.stream()
    workers = [stream.chunks(slot) for slot in range(run.workers)]
    chunks = (next(worker) for worker in cycle(workers))
    batches = list(islice(in_order(chunks, run.workers, run.layout.micro_batch_seqs), count))
    for batch in batches:
        run.cursors.update(batch.cursors)
    return batches


def test_processes_end_at_the_same_cursors_as_one(corpus: Corpus) -> None:
    shards = corpus(3, 24)
    one = Run(shards)
    one.take(3 * EFFECTIVE // MICRO)
    merged: Cursors = {}
    for rank in range(4):
        part = Run(shards, rank, world_size=4, workers=2)
        part.take(3 * EFFECTIVE // 4 // MICRO)
        merged.update(part.cursors)
    assert merged == one.cursors


@pytest.mark.parametrize("workers", [0, 2])
def test_stopping_after_any_batch_and_going_on_is_the_same_as_not_stopping(corpus: Corpus, workers: int) -> None:
    shards = corpus(3, 12)
    whole = sequences(Run(shards, workers=workers).take(24))
    for stop in range(0, 24, 1 if workers == 0 else 5):
        run = Run(shards, workers=workers)
        assert sequences(run.take(stop) + run.take(24 - stop)) == whole


def test_a_run_stopped_between_steps_goes_on_with_other_numbers_of_processes_and_workers(corpus: Corpus) -> None:
    shards = corpus(3, 24)
    one = Run(shards)
    one.take(2 * EFFECTIVE // MICRO)
    pieces = []
    for rank in range(2):
        part = Run(shards, rank, world_size=2, workers=2)
        part.cursors = {lane: one.cursors[lane] for lane in part.layout.owned()}
        pieces += sequences(part.take(EFFECTIVE // 2 // MICRO))
    assert sorted(pieces) == expected_steps(shards, 3)[2]


def test_a_run_stopped_inside_a_step_goes_on_with_another_number_of_workers(corpus: Corpus) -> None:
    shards = corpus(3, 24)
    run = Run(shards, workers=2)
    got = run.take(3)
    run.workers, run.layout = 0, run.layout._replace(workers=1)
    assert sequences(got + run.take(5)) == sequences(Run(shards).take(8))


def test_a_run_stopped_inside_a_step_refuses_another_number_of_processes(corpus: Corpus) -> None:
    shards = corpus(3, 24)
    run = Run(shards, world_size=2)
    run.take(1)
    run.cursors = {lane: LaneCursor() for lane in range(LANES)} | run.cursors
    run.layout = run.layout._replace(world_size=1)
    with pytest.raises(InputError, match="inside an optimiser step"):
        run.take(1)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_reading_ahead_never_moves_the_cursor_of_what_was_taken(corpus: Corpus, workers: int) -> None:
    shards = corpus(3, 12)
    run = Run(shards, workers=workers)
    for count in (1, 3, 4, 1):  # each time, workers have read several batches ahead by the time they are stopped
        run.take(count)
    expected = Run(shards)
    expected.take(9)
    assert run.cursors == expected.cursors
    assert sum(cursor.tokens for cursor in run.cursors.values()) == 9 * MICRO * SEQ_LEN


def test_batches_come_with_shapes_types_and_the_cursors_of_the_lanes_they_touched(corpus: Corpus) -> None:
    (first, second) = Run(corpus(3, 12)).take(2)
    assert first.input_ids.shape == (MICRO, SEQ_LEN)
    assert first.positions.shape == (MICRO, 3)
    assert first.input_ids.dtype == first.positions.dtype == torch.long
    assert (list(first.cursors), list(second.cursors)) == ([0, 1], [2, 3])
    assert all(type(value) in (int, str) for value in first.cursors[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_vanishes_in_mid_stream_ends_the_run_with_one_sentence(corpus: Corpus, workers: int) -> None:
    shards = corpus(9, 6)  # lane 0 goes on from shard 0 to shard 8
    run = Run(shards, workers=workers)
    run.take(1)
    os.remove(shards[8].url)
    with pytest.raises(RunError) as caught:
        run.take(200)
    assert str(caught.value) == (
        "Shard 008.parquet vanished before its row 0 was read; put it back, and start again or resume with "
        "--ckpt_path last."
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_what_came_before_a_corrupt_shard_is_trained_on_and_mending_it_goes_on(corpus: Corpus, workers: int) -> None:
    shards = corpus(9, 6)
    whole = sequences(Run(shards).take(100))
    good = Path(shards[8].url).read_bytes()
    Path(shards[8].url).write_bytes(good[:40])
    run = Run(shards, workers=workers)
    got: list[TextBatch] = []
    with pytest.raises(RunError, match=r"^Shard 008\.parquet cannot be read from row 0 on"):
        run.take(100, into=got)
    assert len(got) > 5
    Path(shards[8].url).write_bytes(good)
    run.take(100 - len(got), into=got)
    assert sequences(got) == whole


def test_a_failure_in_a_worker_of_any_kind_of_ours_arrives_as_itself(corpus: Corpus) -> None:
    run = Run(corpus(1, 3, 12), workers=1)  # 8 lanes on 3 rows: most have nothing to train on
    with pytest.raises(InputError, match=r"^There is no document to train on in 000\.parquet; .*text\.$"):
        run.take(1)


def test_held_out_batches_are_shared_without_repeating_or_padding() -> None:
    rows = [[100 * i + j for j in range(SEQ_LEN)] for i in range(10)]
    parts = [HeldOutBatches(rows, DRAW, 2, rank, 2) for rank in range(2)]
    assert [len(part) for part in parts] == [3, 3]
    got = [ids for part in parts for batch in part for ids in batch.input_ids.tolist()]
    assert sorted(got) == rows
    single = HeldOutBatches(rows, DRAW, 4, 0, 1)
    assert sorted(sequences(list(single))) == sorted(s for part in parts for s in sequences(list(part)))
    assert sequences(list(single)) == sequences(list(single))
    assert all(batch.cursors == {} for batch in single)


def test_what_a_worker_sends_takes_no_socket_and_no_shared_memory(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors do: with TMPDIR full, or its path too long, a fit would wait for its text without end."""
    sent = []

    class Opened(DataLoader):
        def __iter__(self) -> Any:
            for item in super().__iter__():
                sent.append(item)
                yield item

    shards = corpus(3, 24)
    plain = Run(shards).take(3)
    monkeypatch.setattr("logos_pl.data.packed_text.DataLoader", Opened)
    for batch, other in zip(Run(shards, workers=1).take(3), plain, strict=True):
        assert torch.equal(batch.input_ids, other.input_ids)
        assert torch.equal(batch.positions, other.positions)
    assert sent
    assert not any(isinstance(part, torch.Tensor) for item in sent for part in item)
