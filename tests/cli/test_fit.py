"""What `logos-pl fit` settles, claims and asks of Lightning before it runs, and lets go of in the end."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import LightningEnvironment

from logos_pl.artifacts.checkpoint_file import checkpoint_bytes
from logos_pl.cli.fit import Fit
from logos_pl.cli.run_folder import hold_run_folder
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InputError
from logos_pl.fit.checkpoint import AtomicCheckpointIO, Resuming, RunCheckpoint
from logos_pl.fit.depth_metrics import PERCENTILE_KL
from logos_pl.fit.export import LensExport
from logos_pl.fit.ledger import Ledger
from logos_pl.fit.module import TuningModule
from logos_pl.fit.progress import FitProgress
from logos_pl.fit.start import LensStart
from logos_pl.fit.stopping import PercentileStopping
from logos_pl.modules.graceful_stop import GracefulStop
from tests.artifacts.test_checkpoint_file import make_checkpoint
from tests.cli.parsed import command_of
from tests.tiny import fit_arguments, make_model

NO_LENGTH = TypeError("object of type 'int' has no len()")
AUTO = {"data.tokens": "auto", "data.effective_batch_seqs": "auto", "data.micro_batch_seqs": "auto"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Where the runs of the model are."""
    return tmp_path / "lightning_logs" / "tiny-llama"


@pytest.fixture
def prepared(model: Path, tmp_path: Path) -> Iterator[Callable[..., Fit]]:
    """A fit that has prepared; it lets go of its folder after the test."""
    commands: list[Fit] = []

    def prepare(**options: Any) -> Fit:
        command = command_of("fit", *fit_arguments(model, tmp_path / "corpus", tmp_path, **options))
        commands.append(command)
        command.prepare()
        return command

    yield prepare
    for command in commands:
        command.release(failed=False)


def is_free(folder: Path) -> bool:
    """Whether another fit could write to a folder."""
    try:
        os.close(hold_run_folder(folder))
    except InputError:
        return False
    return True


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(checkpoint_bytes(make_checkpoint()))
    return path


# Planning


def test_the_saved_configuration_has_a_value_for_every_auto(prepared: Callable[..., Fit]) -> None:
    command = prepared(**AUTO, **{"model.dtype": "auto"})
    config = command.config
    assert (config.data.tokens, config.data.effective_batch_seqs, config.data.micro_batch_seqs) == (32_000_000, 32, 8)
    assert (config.trainer.accelerator, config.trainer.devices, config.model.dtype) == ("cpu", 1, "float32")


def test_module_and_text_get_the_resolved_settings_and_the_seed(prepared: Callable[..., Fit]) -> None:
    module, text = prepared(**AUTO, seed_everything=5, schedule="quick").make()
    assert isinstance(module, TuningModule)
    assert isinstance(text, TrainingText)
    assert (module.seed, text.seed) == (5, 5)
    assert {name for name, value in vars(text.settings).items() if value == "auto"} == {"special_tokens"}
    open_until_the_model_is_loaded, of_streamed_models_alone = {"fp32_unembed", "precond"}, {"group_tokens"}
    left = {name for name, value in vars(module.settings).items() if value == "auto"}
    assert left <= open_until_the_model_is_loaded | of_streamed_models_alone


# The run's folder


def test_a_new_fit_locks_a_folder_of_its_own_until_it_has_ended(prepared: Callable[..., Fit], logs: Path) -> None:
    first, second = prepared(), prepared()
    assert (first.run_folder, second.run_folder) == (logs / "version_0", logs / "version_1")
    assert not is_free(first.run_folder)
    first.release(failed=False)
    assert is_free(first.run_folder)
    assert not is_free(second.run_folder)


def test_a_fit_that_failed_removes_its_folder(prepared: Callable[..., Fit], tmp_path: Path) -> None:
    prepared().release(failed=True)
    assert list((tmp_path / "lightning_logs").iterdir()) == []


def test_a_resumed_fit_writes_to_the_folder_of_its_checkpoint_and_keeps_it_after_a_failure(
    prepared: Callable[..., Fit], logs: Path
) -> None:
    last = save(logs / "version_3" / "last.ckpt")
    command = prepared(ckpt_path="last")
    assert command.run_folder == last.parent
    assert command.config.ckpt_path == str(last), "as Lightning takes it"
    with pytest.raises(InputError, match="Another fit is writing to"):
        prepared(ckpt_path=last)
    last.unlink()
    command.release(failed=True)
    assert last.parent.is_dir()
    assert is_free(last.parent)


def test_only_the_first_process_makes_locks_and_removes_a_folder(
    prepared: Callable[..., Fit], logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logos_pl.cli.fit.is_first_process", lambda: False)
    command = prepared()
    assert command.run_folder == logs / "version_0"
    assert not logs.exists()
    save(logs / "version_0" / "last.ckpt")
    beside = prepared(ckpt_path="last")
    assert is_free(logs / "version_0")
    (logs / "version_0" / "last.ckpt").unlink()
    for each in (command, beside):
        each.release(failed=True)
    assert (logs / "version_0").is_dir(), "it is the first process's to take away"


# What the Trainer is made of


def parts_of(command: Fit) -> dict[str, Any]:
    return command.trainer_parts(command.config.trainer)


def test_the_token_budget_alone_sets_the_number_of_steps(
    prepared: Callable[..., Fit],
) -> None:
    parts = parts_of(prepared(**{"data.tokens": 12 * 8 * 32 + 1}))
    assert parts["max_steps"] == 13, "the last, partial step counts as one"
    assert parts["max_epochs"] == -1
    assert parts["accumulate_grad_batches"] == 2
    assert parts["num_sanity_val_steps"] == 0


def test_callbacks_run_in_the_order_in_which_they_depend_on_each_other(prepared: Callable[..., Fit]) -> None:
    command = prepared()
    callbacks: list[Callback] = parts_of(command)["callbacks"]
    kinds = [type(callback) for callback in callbacks]
    best, last = (callback for callback in callbacks if isinstance(callback, RunCheckpoint))
    assert kinds[0] is Resuming
    assert kinds.index(Ledger) < min(kinds.index(RunCheckpoint), kinds.index(GracefulStop)), "counted, then saved"
    assert kinds.index(GracefulStop) < kinds.index(LensStart), "it listens while the start is read"
    assert kinds.index(LensExport) > kinds.index(PercentileStopping) > callbacks.index(last), "the export is the last"
    assert (best.monitor, last.monitor) == (PERCENTILE_KL, None)
    assert {Path(str(each.dirpath)) for each in (best, last)} == {command.run_folder}
    (stop,) = (callback for callback in callbacks if isinstance(callback, GracefulStop))
    assert stop.checkpoint == command.run_folder / "last.ckpt", "which --ckpt_path last finds"


@pytest.mark.parametrize(("option", "shown"), [({}, True), ({"trainer.enable_progress_bar": "false"}, False)])
def test_progress_is_shown_unless_the_user_says_no(
    option: dict[str, str], shown: bool, prepared: Callable[..., Fit]
) -> None:
    callbacks = parts_of(prepared(**option))["callbacks"]
    assert any(isinstance(callback, FitProgress) for callback in callbacks) == shown


def test_tensorboard_logs_to_the_folder_of_the_run_unless_another_logger_was_given(
    prepared: Callable[..., Fit],
) -> None:
    for given in ({}, {"trainer.logger": "true"}):
        command = prepared(**given)
        logger = parts_of(command)["logger"]
        assert isinstance(logger, TensorBoardLogger)
        assert Path(logger.log_dir) == command.run_folder
    assert "logger" not in parts_of(prepared(**{"trainer.logger": "false"})), "it is the Trainer's own option then"


def test_plugins_of_the_user_are_added_to_the_checkpoint_writer(prepared: Callable[..., Fit]) -> None:
    command = prepared()
    environment = LightningEnvironment()
    command.config.trainer.plugins = [environment]
    first, second = parts_of(command)["plugins"]
    assert isinstance(first, AtomicCheckpointIO)
    assert second is environment


# Running


@pytest.mark.parametrize(
    ("error", "has_loaded", "begun", "said"),
    [
        (NO_LENGTH, True, False, True),
        (NO_LENGTH, True, True, False),
        (NO_LENGTH, False, False, False),
        (RuntimeError("Error(s) in loading state_dict for TuningModule: size mismatch"), True, False, True),
        (RuntimeError("CUDA error"), True, False, False),
    ],
)
def test_what_lightning_meets_in_a_checkpoint_before_the_first_step_is_said_of_the_checkpoint(
    error: Exception, has_loaded: bool, begun: bool, said: bool
) -> None:
    def fit(module: Any, **arguments: Any) -> None:
        raise error

    command = Fit.__new__(Fit)
    command.config = SimpleNamespace(ckpt_path="last.ckpt")
    command.resuming, command.checkpoint_io = Resuming(), AtomicCheckpointIO()
    command.resuming.done, command.checkpoint_io.has_loaded = begun, has_loaded
    trainer: Any = SimpleNamespace(fit=fit)
    said_so = "last.ckpt has an invalid part" if said else str(error)
    with pytest.raises(InputError if said else type(error), match=re.escape(said_so)):
        command.run(trainer, LightningModule(), LightningDataModule())
