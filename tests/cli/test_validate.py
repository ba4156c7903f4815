"""`logos-pl validate` before it runs, and what it asks of Lightning."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from logos_pl.data.evaluation_text import ValidationText
from logos_pl.errors import InputError
from logos_pl.modules.lens_loader import LensLoader
from logos_pl.modules.same_run import SameRun
from logos_pl.modules.validation import ValidationModule
from tests.cli.parsed import command_of
from tests.tiny import accepted, fit_arguments, make_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("tiny") / "tiny-llama")


def validate(model: Path, folder: Path, *more: str, **options: Any) -> Any:
    """The command, with all options that a fit of the model was given and it takes, too."""
    name, *arguments = accepted("validate", fit_arguments(model, folder / "corpus", folder, **options))
    return command_of(name, *arguments, *more)


def test_module_and_text_get_the_resolved_settings(model: Path, tmp_path: Path) -> None:
    command = validate(model, tmp_path, **{"data.positions_per_seq": "auto", "model.decoding_norm": "next"})
    command.prepare()
    module, text = command.make()
    assert isinstance(module, ValidationModule)
    assert type(text) is ValidationText
    assert (module.settings.dtype, module.settings.decoding_norm) == ("float32", "next")
    assert (text.settings.val_seqs, text.settings.held_out_frac, text.model_id) == (8, 0.1, str(model))
    assert {name for name, value in vars(text.settings).items() if value == "auto"} == {"special_tokens"}
    assert command.plan.batching is None, "nothing is trained"


def test_a_missing_checkpoint_is_refused_before_anything_is_loaded(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"last\.ckpt .*--ckpt_path"):
        validate(model, tmp_path, "--ckpt_path=last").prepare()


def test_nothing_is_logged_and_lightning_gets_no_checkpoint(model: Path, tmp_path: Path) -> None:
    command = validate(model, tmp_path, **{"trainer.enable_progress_bar": "false"})
    command.prepare()
    parts = command.trainer_parts(command.config.trainer)
    assert [type(callback) for callback in parts.pop("callbacks")] == [SameRun, LensLoader]
    assert parts == {"logger": False, "enable_progress_bar": False}

    calls: list[dict[str, Any]] = []
    trainer = SimpleNamespace(validate=lambda module, **given: calls.append({"module": module} | given))
    command.run(trainer, "module", "text")
    assert calls == [{"module": "module", "datamodule": "text", "verbose": False}]
