"""`logos-pl jacobian` before it runs: how much text it reads, and when it ends."""

from pathlib import Path
from typing import Any

import pytest

from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InputError
from logos_pl.fit.jacobian import JacobianModule
from logos_pl.fit.jacobian_export import JacobianExport
from tests.cli.parsed import command_of
from tests.tiny import fit_arguments, make_model, own


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


@pytest.fixture
def prepared(model: Path, tmp_path: Path) -> Any:
    def prepare(**options: Any) -> Any:
        given = {"jacobian.folder": tmp_path / "jacobians", "seed_everything": 5} | options
        name, *arguments = own("jacobian", fit_arguments(model, tmp_path / "corpus", tmp_path, **given))
        command = command_of(name, *arguments)
        command.prepare()
        return command

    return prepare


@pytest.mark.parametrize(("asked", "micro", "sequences"), [
    (64, 4, 64), (60, 4, 64), (20, 4, 20), (18, 4, 20), (64, 3, 66), (2, 4, 4), (20, "auto", 20), (100, "auto", 128),
])  # fmt: skip
def test_the_text_is_just_enough_for_the_sequences_and_validated_once_at_the_end(
    asked: int, micro: int | str, sequences: int, prepared: Any
) -> None:
    text = prepared(**{"jacobian.sequences": asked, "data.micro_batch_seqs": micro}).text
    assert text.tokens == sequences * 32
    assert text.validate_every_steps * text.effective_batch_seqs == sequences
    assert text.effective_batch_seqs % text.micro_batch_seqs == 0


def test_module_and_text_get_the_resolved_settings_and_the_seed(prepared: Any) -> None:
    module, text = prepared(**{"jacobian.probes": 5, "model.decoding_norm": "next"}).make()
    assert isinstance(module, JacobianModule)
    assert isinstance(text, TrainingText)
    assert (module.jacobian.probes, module.seed, text.seed) == (5, 5, 5)
    assert module.decoding_norm == "final", "J leads to the last row, which the final norm reads"
    assert {name for name, value in vars(text.settings).items() if value == "auto"} == {"special_tokens"}
    assert (module.settings.dtype, module.settings.placement) == ("float32", "resident")


def test_the_fit_is_one_epoch_that_writes_only_the_lens(prepared: Any, tmp_path: Path) -> None:
    command = prepared()
    parts = command.trainer_parts(command.config.trainer)
    (export,) = parts.pop("callbacks")
    assert isinstance(export, JacobianExport)
    assert export.destination == tmp_path / "jacobians" / "tiny-llama"
    assert parts == {
        "max_epochs": 1,
        "num_sanity_val_steps": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
    }
    assert not (tmp_path / "jacobians").exists(), "until it has begun"


def test_sequences_are_as_long_as_those_of_published_lenses_unless_told(model: Path) -> None:
    command = command_of("jacobian", f"--model.model_id={model}")
    assert command.settings["data"].seq_len == 128


@pytest.mark.parametrize(("options", "message"), [
    ({"jacobian.skip_first": 31}, "--jacobian.skip_first 31 leaves no position of a sequence of --data.seq_len 32"),
    ({"model.placement": "streamed"}, "--model.placement streamed has no backward pass, which jacobian needs"),
    ({"model.placement": "sharded"}, "--model.placement sharded has no backward pass, which jacobian needs"),
    ({"trainer.devices": 2}, "jacobian runs in one process: give --trainer.devices 1."),
])  # fmt: skip
def test_what_cannot_run_is_refused_in_a_sentence(options: dict[str, Any], message: str, prepared: Any) -> None:
    with pytest.raises(InputError, match=message):
        prepared(**options)
