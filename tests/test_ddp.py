"""Two processes give the lens that one gives."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.tiny import fit_arguments, make_corpus, make_model

TWO = {"trainer.devices": 2, "trainer.strategy": "ddp"}


def fit(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "logos_pl", "fit", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.fixture(scope="module")
def lenses(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("ddp")
    model, corpus = make_model(folder / "tiny-llama"), make_corpus(folder / "corpus")
    for name, options in (("one", {}), ("two", TWO)):
        fit(fit_arguments(model, corpus, folder / name, **options))
    return folder / "one" / "lenses" / "tiny-llama", folder / "two" / "lenses" / "tiny-llama"


@pytest.mark.parametrize(("file", "trained"), [("weights.pt", "V"), ("companion.pt", "c")])
def test_two_processes_train_the_weights_that_one_trains(file: str, trained: str, lenses: tuple[Path, Path]) -> None:
    one, two = (torch.load(lens / file, weights_only=True) for lens in lenses)

    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-5, atol=1e-6)
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
