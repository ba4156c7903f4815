"""A fit stops within the micro-batch in which it is told to, and what it was doing is done again when it is resumed."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from logos_pl.cli.entry import main
from logos_pl.fit import closed_form
from logos_pl.fit.module import TuningModule
from tests.fit.test_resume import assert_same_outcome
from tests.tiny import fit_arguments

pytestmark = pytest.mark.slow

STEPS = ("training_step", "validation_step")


@pytest.fixture(scope="module")
def uninterrupted(fitted: Path) -> Path:
    """The folder of a run that nothing happened to."""
    return fitted


class Stopped:
    """Sends SIGTERM in one micro-batch of a fit, and lets none begin after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, hook: str, step: int, index: int) -> None:
        self.sent = False
        self.where = (hook, step, index)
        for name in STEPS:
            monkeypatch.setattr(TuningModule, name, self._watched(name, getattr(TuningModule, name)))

    def _watched(self, name: str, inner: Any) -> Any:
        def step(module: TuningModule, batch: Any, index: int) -> Any:
            assert not self.sent, "another micro-batch after the signal"
            if (name, module.global_step, index) == self.where:
                self.sent = True
                os.kill(os.getpid(), signal.SIGTERM)
            return inner(module, batch, index)

        return step


@pytest.mark.parametrize(
    ("hook", "step", "index"),
    [
        ("training_step", 0, 0),  # the first of all
        ("training_step", 4, 0),  # the first half of the first step after a validation
        ("training_step", 5, 3),  # the second half of a step
        ("training_step", 7, 7),  # the last before a validation
        ("validation_step", 4, 0),
        ("validation_step", 8, 1),  # the last of a validation
        ("validation_step", 12, 0),  # after the last step
    ],
)
def test_a_fit_stops_within_any_micro_batch_and_resumes_to_the_same_weights(
    hook: str,
    step: int,
    index: int,
    tiny: dict[str, Path],
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path)]
    with monkeypatch.context() as patch:
        stopped = Stopped(patch, hook, step, index)
        assert main(arguments) == 128 + signal.SIGTERM
    assert stopped.sent
    taken = step + (hook == "training_step" and index % 2 == 1)
    assert capsys.readouterr().err.startswith(
        f"logos-pl: Stopped by SIGTERM after step {taken}; go on with --ckpt_path"
    )

    assert main([*arguments, "--ckpt_path=last"]) == 0
    assert_same_outcome(tmp_path, uninterrupted)


def test_a_validation_can_be_interrupted_twice(
    tiny: dict[str, Path],
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path)]
    for resumed, said in (
        ([], "after step 8; go on"),
        (["--ckpt_path=last"], "during the validation of step 8; go on"),
    ):
        with monkeypatch.context() as patch:
            Stopped(patch, "validation_step", 8, 0)
            assert main([*arguments, *resumed]) == 128 + signal.SIGTERM
        assert said in capsys.readouterr().err

    assert main([*arguments, "--ckpt_path=last"]) == 0
    assert_same_outcome(tmp_path, uninterrupted)


@pytest.mark.parametrize(
    ("moment", "during"),
    [
        ("_pieces", "the closed-form start"),
        ("held_out_errors", "the closed-form start"),
        ("validation", "the validation of step 0"),
    ],
)
def test_a_fit_stopped_in_its_start_leaves_nothing_and_can_be_started_again(
    moment: str,
    during: str,
    tiny: dict[str, Path],
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path)]
    with monkeypatch.context() as patch:
        if moment == "validation":
            Stopped(patch, "validation_step", 0, 0)
        else:
            inner, calls = getattr(closed_form, moment), []

            def called(*arguments: Any) -> Any:
                calls.append(moment)
                assert len(calls) < 2, "a micro-batch and a row have one call each"
                if len(calls) == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                return inner(*arguments)

            patch.setattr(closed_form, moment, called)
        assert main(arguments) == 128 + signal.SIGTERM
    said = capsys.readouterr().err
    assert said == f"logos-pl: Stopped by SIGTERM during {during}; nothing was saved, start again.\n"
    assert not list(tmp_path.rglob("*.ckpt"))

    assert main(arguments) == 0
    assert_same_outcome(tmp_path, uninterrupted)


def test_the_norm_lens_is_read_once_and_its_figures_are_those_of_reading_it_again(
    tiny: dict[str, Path], uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a run that is resumed, whose checkpoint has them."""
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path)]
    read: list[tuple[str, int]] = []
    inner = TuningModule.validation_step

    def step(module: TuningModule, batch: Any, index: int) -> None:
        read.extend((name, module.global_step) for name in module.row_means if index == 0)
        inner(module, batch, index)

    monkeypatch.setattr(TuningModule, "validation_step", step)
    with monkeypatch.context() as patch:
        Stopped(patch, "training_step", 9, 2)
        assert main(arguments) == 128 + signal.SIGTERM
    assert main([*arguments, "--ckpt_path=last"]) == 0
    assert read == [("norm", 0), ("tuned", 0), ("tuned", 4), ("tuned", 8), ("tuned", 12)]

    forgetful = property(lambda self: None, lambda self, value: None)
    monkeypatch.setattr(TuningModule, "_norm_reading", forgetful, raising=False)
    read.clear()
    every = tmp_path / "every"
    assert main(["fit", *fit_arguments(**tiny, logs=every)]) == 0
    assert read == [(name, step) for step in (0, 4, 8, 12) for name in ("norm", "tuned")]
    assert_same_outcome(every, uninterrupted)
