"""Every command gives with a streamed model what it gives with the same model in memory, bit for bit."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.cli.entry import main
from logos_pl.fit.module import TuningModule
from tests.tiny import accepted, fit_arguments, make_corpus, make_model

pytestmark = pytest.mark.slow

STREAMED = {"model.placement": "streamed", "model.group_tokens": 5 * 4 * 32}  # five micro-batches: two steps and a half
KILLED = """
import os, signal, sys
from logos_pl.cli.entry import main
from logos_pl.fit.module import TuningModule
inner = TuningModule.training_step
def step(self, batch, index):
    if self.global_step == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return inner(self, batch, index)
TuningModule.training_step = step
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    return {"model": make_model(folder / "tiny-llama"), "corpus": make_corpus(folder / "corpus", documents=400)}


def fit(tiny: dict[str, Path], logs: Path, **options: Any) -> None:
    assert main(["fit", *fit_arguments(**tiny, logs=logs, **options)]) == 0


@pytest.fixture(scope="module")
def resident(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("resident")
    fit(tiny, logs)
    return logs


@pytest.fixture(scope="module")
def streamed(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    logs = tmp_path_factory.mktemp("streamed")
    fit(tiny, logs, **STREAMED)
    return logs


def assert_same_fit(a: Path, b: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        one, two = (torch.load(next(logs.rglob(name)), weights_only=True) for logs in (a, b))
        assert one["state_dict"].keys() == two["state_dict"].keys()
        assert all(torch.equal(value, two["state_dict"][key]) for key, value in one["state_dict"].items())
        assert one["lens_validation"] == two["lens_validation"]
        assert one["lens_start"] == two["lens_start"]


def test_a_streamed_fit_has_the_weights_and_the_validation_of_a_resident_one(resident: Path, streamed: Path) -> None:
    assert_same_fit(resident, streamed)
    (config,) = streamed.rglob("config.yaml")
    assert "placement: streamed" in config.read_text()
    assert "group_tokens: 640" in config.read_text()


def test_rows_that_are_drawn_in_each_step_are_those_of_a_resident_fit(tiny: dict[str, Path], tmp_path: Path) -> None:
    drawn = {"model.layers_per_step": 2, "data.tokens": 4 * 8 * 32, "model.init": "random"}
    fit(tiny, tmp_path / "a", **drawn)
    fit(tiny, tmp_path / "b", **drawn, **STREAMED)
    assert_same_fit(tmp_path / "a", tmp_path / "b")


def test_a_streamed_fit_that_is_killed_and_resumed_ends_with_the_weights_of_a_resident_one(
    tiny: dict[str, Path], resident: Path, tmp_path: Path
) -> None:
    arguments = ["fit", *fit_arguments(**tiny, logs=tmp_path, **STREAMED)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert main([*arguments, "--ckpt_path=last"]) == 0
    assert_same_fit(resident, tmp_path)


def test_a_disk_that_vanishes_in_mid_fit_is_one_sentence_and_leaves_no_lens(
    tiny: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    model = shutil.copytree(tiny["model"], tmp_path / "tiny-llama")
    inner = TuningModule.training_step

    def step(module: TuningModule, batch: Any, index: int) -> Any:
        if module.global_step == 2:
            (model / "model.safetensors").unlink(missing_ok=True)
        return inner(module, batch, index)

    monkeypatch.setattr(TuningModule, "training_step", step)
    assert main(["fit", *fit_arguments(model, tiny["corpus"], tmp_path, **STREAMED)]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "model.safetensors of tiny-llama can no longer be read (No such file or directory)" in line
    assert [path for path in (tmp_path / "lenses").rglob("*") if path.is_file()] == []


def numbers(folder: Path) -> dict[str, bytes]:
    """All files of numbers that a command wrote."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.suffix in (".csv", ".npz")}


@pytest.mark.parametrize("name", ["predict", "test"])
def test_an_evaluation_writes_the_numbers_of_a_resident_one(
    name: str, tiny: dict[str, Path], resident: Path, tmp_path: Path
) -> None:
    (lens,) = (resident / "lenses").iterdir()
    for placement in ("resident", "streamed"):
        more = ["--lens.source", str(lens)]
        if name == "predict":
            more += ["--sweep.attribution=true", "--sweep.keep_residuals=true"]
        options = STREAMED if placement == "streamed" else {}
        arguments = accepted(name, fit_arguments(**tiny, logs=tmp_path / placement, **options))
        assert main([*arguments, *more]) in (0, 3)
    wanted, found = numbers(tmp_path / "resident"), numbers(tmp_path / "streamed")
    assert wanted
    assert found == wanted


def test_validation_and_selftest_print_the_same_numbers(
    tiny: dict[str, Path], resident: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (lens,) = (resident / "lenses").iterdir()
    printed: dict[str, list[str]] = {}
    for placement, options in (("resident", {}), ("streamed", STREAMED)):
        given = fit_arguments(**tiny, logs=tmp_path, **options)
        assert main([*accepted("validate", given), "--lens.source", str(lens)]) == 0
        assert main(accepted("selftest", given)) == 0
        lines = capfd.readouterr().out.splitlines()
        printed[placement] = [line for line in lines if "parameters" not in line]
    assert printed["streamed"] == printed["resident"]


def test_a_prism_is_fitted_to_the_same_bits(tiny: dict[str, Path], tmp_path: Path) -> None:
    found = []
    for placement, options in (("resident", {}), ("streamed", STREAMED)):
        own: dict[str, Any] = {"prism.folder": tmp_path / placement, "prism.positions": 500}
        assert main(accepted("prism", fit_arguments(**tiny, logs=tmp_path, **own, **options))) == 0
        files = sorted((tmp_path / placement).rglob("*.pt"))
        found.append([torch.load(path, weights_only=True) for path in files])
    assert found[0]
    for one, two in zip(*found, strict=True):
        pairs = [(one, two)] if isinstance(one, torch.Tensor) else [(one[key], two[key]) for key in one]
        assert all(torch.equal(a, b) for a, b in pairs)
