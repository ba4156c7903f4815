"""Quantised and adapted models through fit, test and predict; their lenses are no other model's."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from logos_pl.artifacts.provenance import Provenance
from logos_pl.cli.entry import main
from logos_pl.cli.read import main as read
from tests.quantised import make_adapter, make_gguf, package, wide_model
from tests.tiny import accepted, fit_arguments, make_corpus, own

GIVEN = ("gguf", "adapter")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package("gguf")
    package("accelerate")
    return wide_model(tmp_path_factory.mktemp("quantised") / "base")


@pytest.fixture(scope="module")
def corpus(base: Path) -> Path:
    return make_corpus(base.parent / "corpus", documents=200)


@pytest.fixture(scope="module")
def options(base: Path) -> dict[str, dict[str, Any]]:
    """How each model is given on the command line."""
    folder = base.parent / "stored"
    folder.mkdir()
    make_gguf(base, folder / "m.Q8_0.gguf")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text((base / name).read_text())
    adapter = make_adapter(base, base.parent / "lora")
    return {
        "gguf": {"model.model_id": folder, "model.gguf": "m.Q8_0.gguf"},
        "adapter": {"model.model_id": base, "model.adapter": adapter},
    }


NAMES = {"gguf": "m.Q8_0.gguf", "adapter": "lora"}


@pytest.fixture(scope="module")
def fitted(
    base: Path, corpus: Path, options: Mapping[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[str]]:
    """Arguments of the fit of each model, which has been run."""
    logs = tmp_path_factory.mktemp("fits")
    found = {}
    for given in GIVEN:
        found[given] = fit_arguments(base, corpus, logs, **options[given])
        assert main(["fit", *found[given]]) == 0
    return found


def lens_of(arguments: list[str], name: str) -> Path:
    folder = next(part.partition("=")[2] for part in arguments if part.startswith("--export.folder="))
    return Path(folder) / name


@pytest.mark.parametrize("given", GIVEN)
def test_fit_test_and_predict_read_what_is_given_and_record_it(
    given: str, fitted: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, name = fitted[given], NAMES[given]
    lens = lens_of(arguments, name)
    provenance = Provenance.from_json((lens / "provenance.json").read_text())
    recorded = provenance.fingerprint.loaded_as
    assert recorded is not None
    assert provenance.model_id == name
    assert main(accepted("test", [*arguments, "--intermediates.suite=off"])) in (0, 3)
    assert (lens / "gates.json").is_file()
    out = tmp_path / "out"
    sweep = [*own("predict", arguments)[1:], "--data.prompt=sun moon", f"--sweep.out_dir={out}"]
    assert main(["predict", *sweep]) == 0
    document = json.loads((out / f"output-{name}.json").read_text())
    assert document["model"]["model_id"] == name
    assert document["model"]["loaded_as"]["format"] == recorded.format
    assert document["run"]["lenses"] == ["norm", "tuned"]
    said = {"gguf": "GGUF Q8_0 weights, de-quantised when it is loaded", "adapter": "the LORA adapter lora, merged"}
    assert f"{name}: 0.2M parameters, 4 blocks, {said[given]}" in capsys.readouterr().out


@pytest.mark.parametrize("given", GIVEN)
def test_a_lens_is_refused_on_the_base_model_and_the_bases_on_it(
    given: str,
    fitted: dict[str, list[str]],
    base: Path,
    corpus: Path,
    options: Mapping[str, dict[str, Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = fit_arguments(base, corpus, tmp_path)
    prompt = ["--data.prompt=sun moon", f"--sweep.out_dir={tmp_path / 'out'}"]
    lens = lens_of(fitted[given], NAMES[given])
    assert main(["predict", *own("predict", plain)[1:], *prompt, f"--lens.source={lens}"]) == 2
    assert f"The lens was trained for {NAMES[given]}, not for base: load {NAMES[given]}" in capsys.readouterr().err
    assert main(["fit", *plain]) == 0
    changed = own("predict", fit_arguments(base, corpus, tmp_path, **options[given]))[1:]
    assert main(["predict", *changed, *prompt, f"--lens.source={lens_of(plain, 'base')}"]) == 2
    assert f"The lens was trained for base, not for {NAMES[given]}: load base" in capsys.readouterr().err


def test_read_takes_them_too(
    base: Path, options: Mapping[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    stored, adapted = options["gguf"], options["adapter"]
    assert read(["sun moon", "--model", str(stored["model.model_id"]), "--gguf", "m.Q8_0.gguf"]) == 0
    assert "m.Q8_0.gguf: 4 blocks, on cpu" in capsys.readouterr().out
    assert read(["sun moon", "--model", str(base), "--adapter", str(adapted["model.adapter"])]) == 0
    assert "lora: 4 blocks, on cpu" in capsys.readouterr().out


def test_several_models_have_no_gguf_file_or_adapter_in_common(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--model.model_id=any", "--models", str(base), "demo", "--model.adapter=x"]) == 2
    assert "--model.gguf and --model.adapter belong to one model: leave --models out." in capsys.readouterr().err
