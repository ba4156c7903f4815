"""Lenses trained beside each other are those of fits of their own."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import rank
from benchmarks.rank import rank_table, train_ranks
from logos_pl.artifacts.checkpoint_file import read_checkpoint
from logos_pl.cli.entry import main
from logos_pl.data.training_text import TrainingText
from logos_pl.lm.frozen import FrozenLM
from logos_pl.settings.resolve import resolve_text
from logos_pl.settings.text import TrainingTextSettings
from tests.tiny import fit_arguments, make_corpus, make_model, resolved


def test_each_rank_gets_the_weights_of_a_fit_of_its_own_bit_for_bit(tmp_path: Path) -> None:
    model, corpus = make_model(tmp_path / "tiny-llama"), make_corpus(tmp_path / "corpus")
    text = {
        "seq_len": 32, "tokens": 12 * 8 * 32, "effective_batch_seqs": 8, "micro_batch_seqs": 8, "positions_per_seq": 4,
        "held_out_frac": 0.1, "val_seqs": 8, "lanes": 4, "num_workers": 0,
    }  # fmt: skip
    given = {f"data.{name}": value for name, value in text.items()} | {"model.bias_only": "false"}
    assert main(["fit", *fit_arguments(model, corpus, tmp_path, **given)]) == 0
    (last,) = (tmp_path / "lightning_logs").rglob("last.ckpt")
    fitted = read_checkpoint(last)["state_dict"]

    lm = FrozenLM.load(str(model))
    settings: dict[str, Any] = text | {"dataset": str(corpus)}
    data = TrainingText(resolve_text(TrainingTextSettings(**settings), "full", lm.vocab_size), str(model))
    data.setup("fit")
    small, same = train_ranks(lm, resolved(model_id=str(model), lr=1e-3), data, [2, 4])
    for name, value in same.module.average("translators").state_dict().items():
        assert torch.equal(value, fitted[f"averages.translators.{name}"]), name
    assert small.module.average("translators").rank == 2
    assert small.seconds > 0


def test_the_file_the_picture_and_the_table_have_every_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures, picture = tmp_path / "rank.json", tmp_path / "img" / "rank.png"
    options = ["--seq_len", "64", "--tokens", "600", "--test_seqs", "2", "--device", "cpu", "--ranks", "2", "full"]
    assert rank.main(["--json", str(figures), "--png", str(picture), *options]) == 0
    found = json.loads(figures.read_text())
    assert list(found["ranks"]) == ["2", "128"]
    assert found["ranks"]["2"]["parameters"] == 7 * (2 * 2 * 128 + 128 + 1)
    assert all(len(part["kl_bits"]) == 8 for part in found["ranks"].values())
    assert picture.read_bytes()[:4] == b"\x89PNG"
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines if "rank" in line] == ["rank 2", "rank 128 (full)"]
    assert rank_table(found).count("CPU s") == 1


def test_a_rank_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        rank.main(["--json", "x.json", "--ranks", "0"])
    assert "a rank is a positive number or `full` (got 0)" in capsys.readouterr().err
