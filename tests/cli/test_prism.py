"""`logos-pl prism` before it runs: how much text its positions need, and when it ends."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from logos_pl.data.training_text import TrainingText
from logos_pl.fit.prism import PrismModule
from logos_pl.fit.prism_export import PrismExport
from logos_pl.modules.same_run import SameRun
from tests.cli.parsed import command_of
from tests.tiny import accepted, fit_arguments, make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture
def prepared(model: Path, tmp_path: Path) -> Any:
    """Makes the command, with all options that a fit of the model was given and it takes, too."""

    def prepare(**options: Any) -> Any:
        own = {"prism.folder": tmp_path / "prisms", "seed_everything": 5} | options
        name, *arguments = accepted("prism", fit_arguments(model, tmp_path / "corpus", tmp_path, **own))
        command = command_of(name, *arguments)
        command.prepare()
        return command

    return prepare


@pytest.mark.parametrize(("asked", "micro_batch"), [(1_000, 4), (5_000, 4), (5_000, 3), (24 * 32, 4), (24 * 32 + 1, 4)])
def test_the_text_is_just_enough_for_the_positions_and_validated_once_at_the_end(
    asked: int, micro_batch: int, prepared: Any
) -> None:
    """Of 32 tokens, positions 8 to 31 are read; steps are of about 32 sequences, in whole micro-batches."""
    text = prepared(**{"prism.positions": asked, "data.micro_batch_seqs": micro_batch}).text
    step_seqs = -(-32 // micro_batch) * micro_batch
    steps = -(-asked // (24 * step_seqs))
    assert text.effective_batch_seqs == step_seqs
    assert text.tokens == steps * step_seqs * 32
    assert text.validate_every_steps == steps
    assert text.micro_batch_seqs == micro_batch


def test_module_and_text_get_the_resolved_settings_and_the_seed(model: Path, prepared: Any) -> None:
    module, text = prepared(**{"prism.rank": 5, "prism.whiten": "full", "prism.positions": 1_000}).make()
    assert isinstance(module, PrismModule)
    assert isinstance(text, TrainingText)
    assert (module.prism.rank, module.prism.whiten, module.prism.positions) == (5, "full", 1_000)
    assert (text.seed, text.model_id, text.settings.dataset[-6:]) == (5, str(model), "corpus")
    assert {name for name, value in vars(text.settings).items() if value == "auto"} == {"special_tokens"}
    assert module.settings.dtype == "float32"


def test_the_fit_is_one_epoch_that_writes_only_the_prism(prepared: Any, tmp_path: Path) -> None:
    command = prepared()
    parts = command.trainer_parts(command.config.trainer)
    same_run, export = parts.pop("callbacks")
    assert isinstance(same_run, SameRun)
    assert isinstance(export, PrismExport)
    assert export.destination == tmp_path / "prisms" / "tiny-llama"
    assert parts == {
        "max_epochs": 1,
        "num_sanity_val_steps": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
    }
    assert not (tmp_path / "prisms").exists(), "until it has ended"
    assert not (tmp_path / "lightning_logs").exists()


def test_it_cannot_be_resumed(prepared: Any) -> None:
    command, calls = prepared(), []
    trainer: Any = SimpleNamespace(fit=lambda module, **given: calls.append(given))
    command.run(trainer, "module", "text")
    assert calls == [{"datamodule": "text"}]
    assert "ckpt_path" not in type(command).accepts()
