"""Two processes give the lens, and the prism, that one gives."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from logos_pl.entry import main
from tests.tiny import fit_arguments, make_corpus, make_model

TWO = {"trainer.devices": 2, "trainer.strategy": "ddp"}


def run(command_name: str, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "logos_pl", command_name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.fixture(scope="module")
def lenses(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("ddp")
    model, corpus = make_model(folder / "tiny-llama"), make_corpus(folder / "corpus")
    for name, options in (("one", {}), ("two", TWO)):
        run("fit", fit_arguments(model, corpus, folder / name, **options))
    return folder / "one" / "lenses" / "tiny-llama", folder / "two" / "lenses" / "tiny-llama"


@pytest.mark.parametrize(("file", "trained"), [("weights.pt", "V"), ("companion.pt", "c")])
def test_two_processes_train_the_weights_that_one_trains(file: str, trained: str, lenses: tuple[Path, Path]) -> None:
    one, two = (torch.load(lens / file, weights_only=True) for lens in lenses)

    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=5e-6)
    assert not torch.equal(one[trained], torch.zeros_like(one[trained]))


def test_two_processes_read_the_same_text_and_record_it(lenses: tuple[Path, Path]) -> None:
    one, two = (json.loads((lens / "provenance.json").read_text()) for lens in lenses)

    assert two["dataset"] == one["dataset"]
    assert two["budget"] == one["budget"]
    assert (one["batching"]["world_size"], one["batching"]["grad_accum"]) == (1, 2)
    assert (two["batching"]["world_size"], two["batching"]["grad_accum"]) == (2, 1)
    assert one["batching"]["effective_batch_seqs"] == two["batching"]["effective_batch_seqs"] == 8
    for percentile, readings in one["val_kl_bits"].items():
        for lens in ("norm", "tuned"):
            assert two["val_kl_bits"][percentile][lens] == pytest.approx(readings[lens], abs=1e-5)


def test_two_processes_fit_the_prism_that_one_fits(tmp_path: Path) -> None:
    model, corpus = make_model(tmp_path / "tiny-llama"), make_corpus(tmp_path / "corpus")
    maps, provenances = [], []
    arguments = fit_arguments(model, corpus, tmp_path, **{"prism.positions": 1500})
    assert main(["prism", *arguments, f"--prism.folder={tmp_path / 'one'}"]) == 0
    run(
        "prism", [*arguments, f"--prism.folder={tmp_path / 'two'}", *(f"--{key}={value}" for key, value in TWO.items())]
    )
    for name in ("one", "two"):
        folder = tmp_path / name / "tiny-llama"
        maps.append([torch.load(folder / file, weights_only=True) for file in ("whiten.pt", "rotation.pt")])
        provenances.append(json.loads((folder / "provenance.json").read_text()))

    for one, two in zip(*maps, strict=True):
        for part, tensor in one.items():
            torch.testing.assert_close(two[part], tensor, rtol=1e-6, atol=1e-6)
    one, two = provenances
    assert (one.pop("world_size"), two.pop("world_size")) == (1, 2)
    same = ("dataset", "budget", "positions", "whiten", "depths", "rows", "rank")
    assert {key: two[key] for key in same} == {key: one[key] for key in same}
    for a, b in zip(one["candidates"], two["candidates"], strict=True):
        assert b["kl_from_final_bits"] == pytest.approx(a["kl_from_final_bits"], abs=1e-5)
