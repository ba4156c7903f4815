import signal
from types import SimpleNamespace
from typing import Any

import pytest

from logos_pl import agreement
from logos_pl.errors import RunError
from logos_pl.modules import same_run
from logos_pl.modules.base import LensModule
from logos_pl.modules.same_run import SameRun
from logos_pl.settings.model import ModelSettings
from tests.artifacts.lenses import make_lm


def trainer(**more: Any) -> Any:
    data = SimpleNamespace(same_in_all=lambda: {"the text consumed": "start", "commit": "c0ffee"})
    return SimpleNamespace(ckpt_path=None, max_steps=12, accumulate_grad_batches=2, datamodule=data, **more)


@pytest.mark.parametrize("name", ["grad_accum", "commit", "the text consumed", "model_dtype", "the checkpoint"])
def test_what_another_process_has_settled_differently_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "gather", lambda own: [own, own | {name: "other"}])
    module = LensModule(ModelSettings(model_id="org/tiny"))
    module.build(make_lm())
    with pytest.raises(RunError, match=rf"differ: {name} is .* in the first and other in process 1;"):
        SameRun().on_fit_start(trainer(), module)


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_process_that_fails_alone_takes_those_along_that_it_has_started(
    everywhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_exit: list[Any] = []
    monkeypatch.setattr(same_run.atexit, "register", lambda *given: at_exit.append(given))
    launcher, error = SimpleNamespace(kill=print), RunError("The disk is full.")
    error.everywhere = everywhere
    SameRun().on_exception(trainer(strategy=SimpleNamespace(launcher=launcher)), None, error)
    assert at_exit == ([] if everywhere else [(launcher.kill, signal.SIGKILL)])


def test_a_process_that_has_started_none_ends_alone() -> None:
    SameRun().on_exception(trainer(strategy=SimpleNamespace(launcher=None)), None, RunError("The disk is full."))
