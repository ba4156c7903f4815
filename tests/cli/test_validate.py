"""`logos-pl validate` before it runs, and what it asks of Lightning."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from logos_pl.cli.entry import main
from logos_pl.data.evaluation_text import ValidationText
from logos_pl.errors import InputError
from logos_pl.modules.lens_loader import LensLoader
from logos_pl.modules.matrix_writer import MatrixWriter
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
    assert [type(callback) for callback in parts.pop("callbacks")] == [SameRun, LensLoader, MatrixWriter]
    assert parts == {"logger": False, "enable_progress_bar": False}

    calls: list[dict[str, Any]] = []
    trainer = SimpleNamespace(validate=lambda module, **given: calls.append({"module": module} | given))
    command.run(trainer, "module", "text")
    assert calls == [{"module": "module", "datamodule": "text", "verbose": False}]


@pytest.mark.parametrize("name", ["norm", "tunde"])
def test_a_matrix_of_a_lens_without_maps_is_refused(name: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"--validate.matrix must be a lens with a map per row: tun.* \(got {name}\)"):
        validate(model, tmp_path, f"--validate.matrix={name}").prepare()


def test_the_matrix_of_a_tuned_lens_has_the_table_of_the_validation_on_its_diagonal(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = accepted("validate", fit_arguments(**tiny, logs=fitted))
    assert main([*command, "--validate.matrix=tuned", f"--validate.out_dir={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr().out
    lines = list(csv.DictReader((tmp_path / "out" / "transfer.csv").read_text().splitlines()))
    assert [(int(line["map_layer"]), int(line["layer"])) for line in lines] == [
        (i, j) for i in (1, 2, 3) for j in range(5)
    ]
    table = {
        cells[0]: cells for cells in map(str.split, said.splitlines()) if cells and cells[0] in "123" and len(cells) > 6
    }
    for line in lines:
        if line["map_layer"] == line["layer"]:
            assert f"{float(line['kl_from_final_bits']):.3f}" == table[line["layer"]][3]
    assert "each read at every row: at " in said
    assert (tmp_path / "out" / "transfer.png").read_bytes().startswith(b"\x89PNG")
    assert main([*command, "--validate.matrix=tuned", f"--validate.out_dir={tmp_path / 'out'}"]) == 2
    assert "holds transfer.png already: choose another --validate.out_dir" in capsys.readouterr().err
    assert main([*command, "--validate.matrix=prism"]) == 2
    assert "--validate.matrix prism: this lens is not loaded, only norm, tuned" in capsys.readouterr().err
