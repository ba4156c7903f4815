import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.tuned_lens_package import OURS, THEIRS, THEIRS_FP32, main, make_package_step
from logos_pl.functional.divergence import row_divergence
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import NormLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from tests.lm.families import tiny_model
from tests.tiny import make_model

SEQS, SEQ, POSITIONS, BLOCKS, D, RANK = 2, 32, 4, 4, 16, 3
MISSING = "the tuned-lens package is not installed"


def arguments(folder: Path) -> list[str]:
    model = make_model(folder / "tiny-llama")
    options = {
        "model.model_id": model,
        "model.rank": RANK,
        "data.seq_len": SEQ,
        "data.effective_batch_seqs": SEQS,
        "data.micro_batch_seqs": SEQS,
        "data.positions_per_seq": POSITIONS,
        "repeats": 1,
        "device": "cpu",
        "json": folder / "figures.json",
    }
    return [f"--{key}={value}" for key, value in options.items()]


def test_without_the_package_one_sentence_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tuned_lens", None)
    assert main(arguments(tmp_path)) == 2
    assert "The tuned-lens package is not installed; `pip install" in capsys.readouterr().err


def test_a_run_counts_what_each_side_learns_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tuned_lens", reason=MISSING)
    assert main(arguments(tmp_path)) == 0
    steps = {step["name"]: step for step in json.loads((tmp_path / "figures.json").read_text())["package"]["steps"]}
    assert list(steps) == [OURS, THEIRS, THEIRS_FP32]
    assert (steps[OURS]["rows"], steps[OURS]["pairs"]) == (BLOCKS - 1, (BLOCKS - 1) * SEQS * POSITIONS)
    assert steps[OURS]["parameters"] == (BLOCKS - 1) * (2 * D * RANK + D + 1)
    for theirs in (steps[THEIRS], steps[THEIRS_FP32]):
        assert (theirs["rows"], theirs["pairs"]) == (BLOCKS, BLOCKS * SEQS * SEQ)
        assert theirs["parameters"] == BLOCKS * (D * D + D)
    assert f"[{SEQS}, {SEQ}] tokens" in capsys.readouterr().out


def test_the_packages_step_begins_at_the_norm_lens_and_learns() -> None:
    package = pytest.importorskip("tuned_lens", reason=MISSING)
    lm = FrozenLM.from_model(tiny_model("llama"))
    ids = torch.randint(90, (2, 9), generator=torch.Generator().manual_seed(0))
    step = make_package_step(lm, package.TunedLens.from_model(lm.model), ids, None)
    losses = [step() for _ in range(4)]
    rows, norm = list(range(lm.num_blocks + 1)), NormLens(Head(lm.anatomy))
    x, inv_tau = norm.decode_inputs(residuals(lm, ids, None, rows).flatten(1, 2), rows)
    bits = row_divergence(x, x[-1], inv_tau, norm.head.unembedding).kl_from_final_bits.mean(dim=1)
    wanted = bits[:-1].double() * torch.log(torch.tensor(2.0, dtype=torch.float64))
    torch.testing.assert_close(torch.tensor(losses[0], dtype=torch.float64), wanted, rtol=1e-4, atol=1e-5)
    assert sum(losses[-1]) < sum(losses[0])
