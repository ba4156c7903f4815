"""A lens on a changed model: refused, or read with what is known of the change beside it."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonschema import Draft202012Validator
from safetensors.torch import load_file, save_file

from logos_pl.api import load_tuned_lens
from logos_pl.artifacts.fingerprint import fixed_tokens
from logos_pl.cli.entry import main
from logos_pl.errors import InputError
from logos_pl.lm.frozen import FrozenLM
from logos_pl.sweeps.schema_file import output_schema
from tests.tiny import accepted, fit_arguments, make_model


@pytest.fixture(scope="module")
def changed(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after a little noise on every weight, as a fine-tune might leave it."""
    folder = shutil.copytree(tiny["model"], tmp_path_factory.mktemp("tuned") / "fine-tune")
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(5)
    noised = {
        name: weight + 0.05 * weight.std(correction=0) * torch.randn(weight.shape, generator=generator)
        for name, weight in weights.items()
    }
    save_file(noised, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def on(name: str, model: Path, tiny: dict[str, Path], fitted: Path, logs: Path, *more: str) -> list[str]:
    """A command on a model with the tiny model's lens."""
    given = fit_arguments(model, tiny["corpus"], logs=logs)
    lens = os.path.relpath(fitted / "lenses" / "tiny-llama")
    return [*accepted(name, given), f"--lens.source={lens}", *more]


def test_a_lens_on_a_changed_model_is_refused_unless_asked_for_and_then_says_how_far_it_is(
    tiny: dict[str, Path], fitted: Path, changed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(on("validate", changed, tiny, fitted, tmp_path)) == 2
    assert "was trained for tiny-llama, not for fine-tune" in capsys.readouterr().err

    swept = on("predict", changed, tiny, fitted, tmp_path, "--lens.transfer=true", "--data.prompt=sun moon")
    assert main([*swept, f"--sweep.out_dir={tmp_path / 'before'}"]) == 0
    assert "on this model it is unknown" in capsys.readouterr().out
    before = section(tmp_path / "before")
    assert before["here"] is None

    assert main(on("validate", changed, tiny, fitted, tmp_path, "--lens.transfer=true")) == 0
    said = capsys.readouterr().out
    assert "the tuned lens was fitted on tiny-llama at sha256:" in said
    assert "the head differs; on a fixed sequence the residual norms differ by" in said
    assert "at its fit on tiny-llama, and here" in said
    table = {cells[0]: cells for cells in map(str.split, said.splitlines()) if cells}

    assert main([*swept, f"--sweep.out_dir={tmp_path / 'after'}"]) == 0
    after = section(tmp_path / "after")
    provenance = json.loads((fitted / "lenses" / "tiny-llama" / "provenance.json").read_text())
    for percent, at in after["recorded"].items():
        assert at["lens"] == provenance["val_kl_bits"][percent]["tuned"]["kl_from_final_bits"]
        assert f"{after['here'][percent]['lens']:.3f}" == table[f"{percent}%"][5]
        assert f"{at['norm']:.3f}" == table[f"{percent}%"][2]
    assert after["moved"] == before["moved"]
    assert (after["fitted_on"], after["model_id"], after["moved"]["same_head"]) == ("tiny-llama", "fine-tune", False)


def section(folder: Path) -> dict[str, Any]:
    """What a sweep's JSON says of the transfer."""
    document = json.loads((folder / "output-fine-tune.json").read_text())
    Draft202012Validator(output_schema()).validate(document)
    found: dict[str, Any] = document["tuned_lens"]["transfer"]
    return found


def test_how_far_the_numbers_moved_is_that_of_both_models_side_by_side(
    tiny: dict[str, Path], fitted: Path, changed: Path, tmp_path: Path
) -> None:
    swept = on("predict", changed, tiny, fitted, tmp_path, "--lens.transfer=true", "--data.prompt=sun moon")
    assert main([*swept, f"--sweep.out_dir={tmp_path / 'out'}"]) == 0
    moved = section(tmp_path / "out")["moved"]
    norms, logits = [], []
    for folder in (tiny["model"], changed):
        lm = FrozenLM.load(str(folder))
        ids = fixed_tokens(lm.vocab_size, 64)
        hidden = lm.model(ids, output_hidden_states=True).hidden_states[:-1]
        last: dict[str, Any] = {}
        lm.anatomy.blocks[-1].register_forward_hook(lambda module, given, out, kept=last: kept.update(h=out))
        lm.model(ids)
        out = last["h"][0] if isinstance(last["h"], tuple) else last["h"]
        rows = torch.stack([*hidden, out.reshape(hidden[0].shape)])[:, 0].double()
        at = [(i + 1) * 64 // 8 - 1 for i in range(8)]
        norms.append(rows[:, at].norm(dim=-1))
        logits.append(lm.logits(ids)[0, -1].double())
    wanted = ((norms[1] - norms[0]).abs() / norms[0]).mean(1)
    assert moved["norm_drift_by_row"] == pytest.approx(wanted.tolist(), rel=1e-3)
    assert (moved["norm_drift"], moved["norm_row"]) == (
        pytest.approx(float(wanted.max()), rel=1e-3),
        int(wanted.argmax()),
    )
    top = logits[0].topk(10).indices
    drift = (logits[1] - logits[0])[top].abs().max() / logits[0][top].abs().max()
    assert moved["logit_drift"] == pytest.approx(float(drift), rel=1e-3)
    assert moved["top_kept"] == len(set(top.tolist()) & set(logits[1].topk(10).indices.tolist()))


@pytest.mark.parametrize("changes", [{"num_hidden_layers": 3}, {"hidden_size": 24}])
def test_a_model_of_another_shape_is_refused(
    changes: dict[str, int], tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_model(tmp_path / "other", **changes)
    assert main(on("validate", other, tiny, fitted, tmp_path, "--lens.transfer=true")) == 2
    said = capsys.readouterr().err
    assert "The tuned lens is for a model of 4 blocks and width 16, but this one has" in said
    assert "--lens.transfer reads a lens with a model of the same shape" in said


def test_the_lens_of_another_model_must_be_named(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*accepted("validate", fit_arguments(**tiny, logs=fitted)), "--lens.transfer=true"]) == 2
    assert "--lens.transfer reads the lens of another model: give it with --lens.source" in capsys.readouterr().err


def test_on_its_own_model_nothing_is_said_and_all_checks_hold(
    tiny: dict[str, Path], fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(on("validate", tiny["model"], tiny, fitted, tmp_path, "--lens.transfer=true")) == 0
    said = capsys.readouterr().out
    assert "was fitted on" not in said
    assert "at its fit" not in said


def test_a_record_that_was_damaged_is_refused_by_name(
    tiny: dict[str, Path], fitted: Path, changed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(on("validate", changed, tiny, fitted, tmp_path, "--lens.transfer=true")) == 0
    (record,) = (tmp_path / "lightning_logs" / "transfers").iterdir()
    swept = on("predict", changed, tiny, fitted, tmp_path, "--lens.transfer=true", "--data.prompt=sun moon")
    for content in ("{", "[]", '{"25": {}}', "{}"):
        record.write_text(content)
        assert main(swept) == 2
        assert f"{record.name} is " in capsys.readouterr().err


def test_a_test_writes_both_sides_to_the_logs_and_leaves_the_lens_as_it_is(
    tiny: dict[str, Path], fitted: Path, changed: Path, tmp_path: Path
) -> None:
    lens = fitted / "lenses" / "tiny-llama"
    before = {path.name: path.read_bytes() for path in lens.iterdir()}
    command = on("test", changed, tiny, fitted, tmp_path, "--lens.transfer=true", "--intermediates.suite=off")
    suite = tmp_path / "facts.yaml"
    suite.write_text("facts:\n- {id: sun, prompt: sun moon, answer: sea}\n")
    assert main([*command, f"--data.suite={suite}"]) in (0, 3)
    assert {path.name: path.read_bytes() for path in lens.iterdir()} == before
    gates = json.loads((tmp_path / "lightning_logs" / "fine-tune" / "gates" / "gates.json").read_text())
    assert gates["model"]["model_id"] == "fine-tune"
    assert gates["transfer"]["tuned"]["fitted_on"] == "tiny-llama"
    assert gates["transfer"]["tuned"]["here"]["50"]["lens"] > 0


def test_in_python_the_distance_is_a_warning(tiny: dict[str, Path], fitted: Path, changed: Path) -> None:
    lm, folder = FrozenLM.load(str(changed)), fitted / "lenses" / "tiny-llama"
    with pytest.raises(InputError, match=r"was trained for tiny-llama|holds the lens of tiny-llama"):
        load_tuned_lens(folder, lm)
    with pytest.warns(UserWarning, match="the tuned lens was fitted on tiny-llama at .* and is read with fine-tune"):
        lens, provenance = load_tuned_lens(folder, lm, transfer=True)
    assert provenance.model_id == "tiny-llama"
    assert lens.head.num_rows == 5
