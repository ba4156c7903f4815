from types import SimpleNamespace
from typing import Any

from logos_pl.callbacks.lens_export import _optim


def test_a_run_that_ended_before_its_last_step_is_recorded_as_ended_early_whoever_ended_it() -> None:
    module: Any = SimpleNamespace(lr=0.01, betas=(0.9, 0.999), weight_decay=1e-4, anneal="average")
    assert _optim(module, total=10, steps_done=4, exported_step=3).stopped_early
    assert not _optim(module, total=10, steps_done=10, exported_step=3).stopped_early
