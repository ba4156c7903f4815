"""`logos-pl test` before it runs: where its verdict goes, and which status it ends with."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from logos_pl.artifacts.checkpoint_file import checkpoint_bytes
from logos_pl.data.evaluation_text import TestText
from logos_pl.errors import GatesNotPassedError, InputError, RunError
from logos_pl.gates.module import GateModule
from logos_pl.gates.writer import GateWriter
from logos_pl.modules.lens_loader import LensLoader
from logos_pl.modules.reading_progress import ReadingProgress
from logos_pl.modules.same_run import SameRun
from tests.artifacts.test_checkpoint_file import make_checkpoint
from tests.cli.parsed import command_of
from tests.tiny import accepted, fit_arguments, make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture
def prepared(model: Path, tmp_path: Path) -> Any:
    """Makes the command, with all options that a fit of the model was given and it takes, too."""

    def prepare(*more: str) -> Any:
        name, *arguments = accepted("test", fit_arguments(model, tmp_path / "corpus", tmp_path))
        command = command_of(name, *arguments, *more)
        command.prepare()
        return command

    return prepare


def parts_of(command: Any) -> dict[str, Any]:
    return command.trainer_parts(command.config.trainer)


def test_module_and_text_get_the_resolved_settings(model: Path, prepared: Any) -> None:
    module, text = prepared("--data.positions_per_seq=auto").make()
    assert isinstance(module, GateModule)
    assert isinstance(text, TestText)
    assert (text.settings.test_seqs, text.settings.suite, text.model_id) == (8, "facts", str(model))
    assert {name for name, value in vars(text.settings).items() if value == "auto"} == {"special_tokens"}


def test_the_verdict_on_a_fitted_lens_is_recorded_in_its_artifact(prepared: Any, tmp_path: Path) -> None:
    command = prepared()
    callbacks = parts_of(command)["callbacks"]
    assert [type(callback) for callback in callbacks] == [ReadingProgress, SameRun, LensLoader, GateWriter]
    assert callbacks[-1] is command.gates
    assert (command.gates.folder, command.gates.is_artifact) == (tmp_path / "lenses" / "tiny-llama", True)


def test_the_verdict_on_a_checkpoint_is_written_beside_it(prepared: Any, tmp_path: Path) -> None:
    best = tmp_path / "elsewhere" / "best.ckpt"
    best.parent.mkdir()
    best.write_bytes(checkpoint_bytes(make_checkpoint()))
    command = prepared(f"--ckpt_path={best}")
    parts_of(command)
    assert (command.gates.folder, command.gates.is_artifact) == (best.parent, False)


def test_the_verdict_on_a_published_lens_goes_to_the_logs(prepared: Any, tmp_path: Path) -> None:
    command = prepared(f"--lens.source={tmp_path}")
    logger = parts_of(command)["logger"]
    assert isinstance(logger, TensorBoardLogger)
    assert command.gates.folder == Path(logger.log_dir) == tmp_path / "lightning_logs" / "tiny-llama" / "gates"
    assert not command.gates.is_artifact


def test_a_missing_checkpoint_is_refused_before_anything_is_loaded(prepared: Any) -> None:
    with pytest.raises(InputError, match=r"best\.ckpt .*--ckpt_path"):
        prepared("--ckpt_path=best")


@pytest.mark.parametrize("passed", [True, False])
def test_the_verdict_decides_on_the_exit_status_after_the_test(prepared: Any, passed: bool) -> None:
    command, calls = prepared(), []

    def evaluate() -> None:
        calls.append("evaluated")
        if not passed:
            raise GatesNotPassedError("Gate A was not passed.")

    command.gates = SimpleNamespace(raise_unless_passed=evaluate)
    trainer: Any = SimpleNamespace(test=lambda module, **given: calls.append(given))
    if passed:
        command.run(trainer, "module", "text")
    else:
        with pytest.raises(GatesNotPassedError):
            command.run(trainer, "module", "text")
    assert calls == [{"datamodule": "text", "verbose": False}, "evaluated"]


def test_a_log_folder_that_cannot_be_made_is_refused_before_lightning_makes_a_part_of_it(
    prepared: Any, tmp_path: Path
) -> None:
    command = prepared(f"--trainer.default_root_dir={tmp_path}/org/{'n' * 300}")
    with pytest.raises(RunError, match="File name too long"):
        command.run(None, None, None)
    assert not (tmp_path / "org").exists()
