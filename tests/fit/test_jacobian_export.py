"""A Jacobian lens on its way to disk, without whole runs: lines, signals and checkpoints."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from logos_pl.errors import InputError, InterruptedRunError
from logos_pl.fit import jacobian_export
from logos_pl.fit.jacobian import JacobianModule
from logos_pl.fit.jacobian_export import JacobianExport
from logos_pl.io.progress import DISPLAY
from logos_pl.modules.graceful_stop import SIGNALS
from logos_pl.settings.jacobian import JacobianSettings
from logos_pl.settings.model import ModelSettings
from tests.artifacts.lenses import make_lm


@pytest.fixture(autouse=True)
def handlers() -> Iterator[dict[int, Any]]:
    """What listened before the test, and does again after it; nothing is shown any more."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)
    for stage in DISPLAY.stages:
        stage.stop()


@pytest.fixture
def module() -> JacobianModule:
    made = JacobianModule(ModelSettings(model_id="org/tiny"), JacobianSettings(probes=8, sequences=64), seed=3)
    made.build(make_lm())
    return made


def trainer() -> Any:
    settings = SimpleNamespace(tokens=64 * 32, seq_len=32, micro_batch_seqs=4)
    return SimpleNamespace(datamodule=SimpleNamespace(settings=settings))


@pytest.fixture
def checkpoints(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths of the checkpoints that were written."""
    written: list[Path] = []
    monkeypatch.setattr(jacobian_export, "write_unfinished", lambda path, module, data: written.append(path))
    return written


def test_progress_counts_backward_passes_those_done_before_included(
    module: JacobianModule, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(DISPLAY, "clock", lambda: now)
    monkeypatch.setattr(DISPLAY, "threaded", False)
    module.num_sequences, module.probes_done = 8, 3
    export = JacobianExport(tmp_path / "tiny")
    export.on_train_start(trainer(), module)
    now = 120.0
    for _ in range(5):
        module.after_probe()
    export.teardown(trainer(), module, "fit")
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["jacobian: 20 of 128 backward passes · 0.05 backward passes/s · 36:00 left"]


def test_a_signal_ends_the_fit_after_the_backward_pass_with_a_checkpoint(
    module: JacobianModule, tmp_path: Path, checkpoints: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    export = JacobianExport(tmp_path / "tiny")
    export.on_train_start(trainer(), module)
    module.num_sequences, module.probes_done = 4, 2
    os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(listened) for listened in SIGNALS] == [signal.SIG_DFL] * 2, "a second one kills"
    assert "Stopping after this backward pass" in capfd.readouterr().out
    with pytest.raises(InterruptedRunError, match="Stopped by SIGINT after 10 backward passes; the same") as at:
        module.after_probe()
    assert at.value.exit_status == 128 + signal.SIGINT
    assert checkpoints == [tmp_path / "tiny.unfinished"]


def test_the_last_backward_pass_of_a_micro_batch_is_not_where_a_fit_stops(
    module: JacobianModule, tmp_path: Path, checkpoints: list[Path]
) -> None:
    """Its sequences are not counted yet; the next one stops it."""
    export = JacobianExport(tmp_path / "tiny")
    export.on_train_start(trainer(), module)
    export._received = signal.SIGTERM
    module.probes_done = 8
    module.after_probe()
    assert checkpoints == []


def test_checkpoints_are_written_by_time(
    module: JacobianModule, tmp_path: Path, checkpoints: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(jacobian_export, "time", SimpleNamespace(monotonic=lambda: now))
    export = JacobianExport(tmp_path / "tiny")
    export.on_train_start(trainer(), module)
    module.probes_done = 1
    counted = []
    for seconds in (1, 119, 120, 121, 239, 240):
        now = 1000.0 + seconds
        module.after_probe()
        counted.append(len(checkpoints))
    assert counted == [0, 0, 1, 1, 1, 2]


@pytest.mark.parametrize("end", ["teardown", "failure"])
def test_signal_handlers_are_restored_however_the_fit_ends(
    end: str, module: JacobianModule, tmp_path: Path, handlers: dict[int, Any]
) -> None:
    export = JacobianExport(tmp_path / "tiny")
    export.on_train_start(trainer(), module)
    assert {number: signal.getsignal(number) for number in SIGNALS} != handlers
    if end == "teardown":
        export.teardown(trainer(), module, "fit")
    else:
        export.on_exception(trainer(), module, KeyError("x"))
    assert {number: signal.getsignal(number) for number in SIGNALS} == handlers


def test_a_folder_of_something_else_is_refused_before_any_text_is_read(module: JacobianModule, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        JacobianExport(tmp_path / "tiny").on_fit_start(trainer(), module)
    assert torch.equal(module.sums.counts, torch.zeros(16, dtype=torch.long))
