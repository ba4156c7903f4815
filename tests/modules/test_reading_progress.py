"""Lines of evaluations by time, for all processes together, from the first one only."""

import io
from types import SimpleNamespace
from typing import Any

import torch

from logos_pl.io.progress import Display
from logos_pl.io.terminal import Console
from logos_pl.modules.reading_progress import ReadingProgress


def trainer(is_global_zero: bool = True) -> Any:
    """Two processes that validate on 16 sequences, and test on 8, five facts and two items."""
    settings = SimpleNamespace(val_seqs=16, test_seqs=8)
    data = SimpleNamespace(
        settings=settings, prompts=["fact"] * 5, unspoken=(None, SimpleNamespace(items=["item"] * 2))
    )
    return SimpleNamespace(datamodule=data, world_size=2, is_global_zero=is_global_zero)


def batch(seqs: int) -> Any:
    return SimpleNamespace(input_ids=torch.zeros(seqs, 9))


def slow_progress() -> ReadingProgress:
    """Progress on a display without terminal, whose clock shows 12 s more each time it is asked."""
    now = iter(range(1_000_000))
    display = Display(clock=lambda: next(now) * 12.0, threaded=False)
    display.console = Console(file=io.StringIO(), soft_wrap=True)
    return ReadingProgress(display)


def printed(progress: ReadingProgress) -> list[str]:
    return progress.display.console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def module() -> Any:
    return SimpleNamespace()


def test_a_validation_counts_the_sequences_of_all_processes() -> None:
    progress, run = slow_progress(), trainer()
    progress.setup(run, module(), "validate")
    progress.on_validation_epoch_start(run, module())
    for index in range(2):
        progress.on_validation_batch_end(run, module(), None, batch(4), index)
    progress.on_validation_end(run, module())
    first, second = printed(progress)
    assert first.startswith("validation: 8 of 16 sequences · ")
    assert first.endswith(" left")
    assert second.startswith("validation: 16 of 16 sequences · ")
    assert progress.display.stages == ()


def test_a_test_counts_its_text_and_then_its_suites_of_which_the_last_may_be_read_by_one_process() -> None:
    progress, run = slow_progress(), trainer()
    for loader, sizes in ((0, (2, 2)), (1, (2, 1)), (2, (1,))):
        for index, size in enumerate(sizes):
            progress.on_test_batch_start(run, module(), batch(size), index, loader)
            progress.on_test_batch_end(run, module(), None, batch(size), index, loader)
    progress.on_test_epoch_end(run, module())
    assert [stage.what for stage in progress.display.stages] == ["computing the gates"]
    progress.on_test_end(run, module())
    counted = [line.split(" · ")[0] for line in printed(progress)]
    assert counted == [
        "test text: 4 of 8 sequences",
        "test text: 8 of 8 sequences",
        "suite: 4 of 5 facts",
        "suite: 5 of 5 facts",
        "unspoken intermediates: 2 of 2 items",
    ]
    assert progress.display.stages == ()


def test_set_up_is_shown_until_the_text_is_read_and_nothing_is_left_after_an_error() -> None:
    progress, run = slow_progress(), trainer()
    progress.setup(run, module(), "test")
    assert [stage.what for stage in progress.display.stages] == ["setting up"]
    progress.on_exception(run, module(), RuntimeError())
    assert progress.display.stages == ()


def test_other_processes_say_nothing() -> None:
    progress, run = slow_progress(), trainer(is_global_zero=False)
    progress.setup(run, module(), "validate")
    progress.on_validation_epoch_start(run, module())
    progress.on_validation_batch_end(run, module(), None, batch(4), 0)
    progress.on_validation_end(run, module())
    assert printed(progress) == []
