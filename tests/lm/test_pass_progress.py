"""Lines that tell somebody who waits where a pass is; none where it is quick."""

import pytest

from logos_pl.lm import pass_progress
from logos_pl.lm.pass_progress import PassProgress, Turn


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pass_progress, "time", clock)
    return clock


def run(progress: PassProgress, clock: Clock, seconds_per_block: float, micro_batches: int = 1) -> None:
    for number in range(8):
        for _ in range(micro_batches):
            progress.begins(number)
            clock.now += seconds_per_block / micro_batches


def test_a_quick_pass_says_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = PassProgress("m", [10**9] * 8)
    for _ in range(3):
        run(progress, clock, 0.5)
    assert capsys.readouterr().out == ""


def test_a_slow_pass_says_every_few_seconds_where_it_is(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = PassProgress("m", [10**9] * 8)
    progress.begins_group(4, Turn(8, 26))
    run(progress, clock, 2.5, micro_batches=4)
    assert capsys.readouterr().out.splitlines() == [
        "m streams: micro-batches 9 to 12 of 26, block 3 of 8 · 400 MB/s · 15 s left in this pass, 95 s in total",
        "m streams: micro-batches 9 to 12 of 26, block 5 of 8 · 400 MB/s · 10 s left in this pass, 90 s in total",
        "m streams: micro-batches 9 to 12 of 26, block 7 of 8 · 400 MB/s · 5 s left in this pass, 85 s in total",
    ]


def test_a_pass_for_nothing_in_particular_names_the_block_alone(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = PassProgress("m", [10**9] * 8)
    progress.begins_group(4, Turn(8))
    progress.ends_group()
    run(progress, clock, 60)
    assert capsys.readouterr().out.splitlines()[0] == "m streams: block 2 of 8 · 17 MB/s · 7 min left in this pass"


def test_the_first_passes_are_the_checks_at_load(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = PassProgress("m", [10**9] * 8)
    clock.now += 1000  # of other loading
    run(progress, clock, 2.5)
    (first, *_) = capsys.readouterr().out.splitlines()
    assert first == "m streams: checks at load, block 3 of 8 · 400 MB/s · 15 s left in this pass"


def test_the_time_between_two_passes_is_not_counted(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = PassProgress("m", [10**9] * 8)
    run(progress, clock, 0.1)
    clock.now += 1000
    run(progress, clock, 0.1)
    assert capsys.readouterr().out == ""
