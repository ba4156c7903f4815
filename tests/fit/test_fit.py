"""What a fit on real models learns: it beats the norm lens, and a lens of bias and temperature alone, at every row."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.cli.entry import main
from logos_pl.lenses.translator import Translators

pytestmark = pytest.mark.slow

DEMO = ["--config", str(Path(__file__).parents[2] / "configs" / "demo.yaml"), "--trainer.accelerator=cpu"]


def fit(folder: Path, arguments: list[str]) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, Any]]:
    """Held-out readings at the best validation, the weights, the provenance."""
    status = main(
        ["fit", *arguments, f"--trainer.default_root_dir={folder / 'logs'}", f"--export.folder={folder / 'lenses'}"]
    )
    assert status == 0
    (best,) = folder.rglob("best.ckpt")
    (lens,) = (folder / "lenses").iterdir()
    weights = torch.load(lens / "weights.pt", weights_only=True)
    readings = torch.load(best, weights_only=True)["lens_validation"]
    return readings, weights, json.loads((lens / "provenance.json").read_text())


def assert_learned(arguments: list[str], folder: Path) -> None:
    tuned, weights, provenance = fit(folder / "tuned", arguments)
    bias, bias_weights, _ = fit(folder / "bias", [*arguments, "--model.rank=0"])

    inner = range(1, provenance["capacity"]["rows"] + 1)
    assert bias_weights["U"].numel() == 0
    for row in inner:
        kl = [reading["kl_from_final_bits"][row] for reading in (tuned["tuned"], bias["tuned"], tuned["norm"])]
        assert kl[0] < kl[1] < kl[2], f"row {row}: tuned, bias and temperature, norm are {kl}"
    start = Translators(len(inner), weights["U"].shape[1], weights["U"].shape[2], seed=provenance["seed"])
    for name in ("U", "V", "c"):
        moved = (weights[name] - getattr(start, name)).flatten(1).norm(dim=1)
        assert (moved > 1e-3).all(), f"{name} has moved by {moved.tolist()}"
    assert (weights["log_tau"] != start.log_tau).all()
    # After the same steps the bias-only lens is the lens of bias and temperature alone, without a fit of its own.
    beside, alone = (
        torch.load(next((folder / which).rglob("last.ckpt")), weights_only=True)["state_dict"]
        for which in ("tuned", "bias")
    )
    for name in ("c", "log_tau"):
        wanted = alone[f"translators.{name}"]
        assert (beside[f"bias_only.{name}"] - wanted).norm() < 1e-3 * wanted.norm(), name
    assert not list((folder / "bias").rglob("bias_only.pt"))


def test_on_the_demo_the_tuned_lens_wins_at_every_row(tmp_path: Path) -> None:
    assert_learned([*DEMO, "--data.tokens=100_000", "--data.val_seqs=16", "--data.effective_batch_seqs=16"], tmp_path)


def test_on_the_reference_model_and_corpus_the_tuned_lens_wins_at_every_row(shared: Path, tmp_path: Path) -> None:
    arguments = {
        "model.model_id": shared / "models" / "tiny-llama",
        "data.dataset": shared / "corpus" / "fineweb-edu-local",
        "data.name": "CC-MAIN-2025-26",
        "data.tokens": 60_000,
        "data.seq_len": 128,
        "data.effective_batch_seqs": 16,
        "data.val_seqs": 16,
        "trainer.accelerator": "cpu",
    }
    assert_learned([f"--{key}={value}" for key, value in arguments.items()], tmp_path)


def test_a_tied_model_of_another_size_is_fitted_on_json_lines(shared: Path, tmp_path: Path) -> None:
    arguments = {
        "model.model_id": shared / "models" / "stories260K",
        "data.dataset": shared / "corpus" / "tinystories" / "stories.jsonl",
        "data.tokens": 60_000,
        "data.seq_len": 128,
        "data.val_seqs": 16,
        "trainer.accelerator": "cpu",
    }
    readings, _, provenance = fit(tmp_path, [f"--{key}={value}" for key, value in arguments.items()])

    assert provenance["capacity"]["rank_k"] == 64, "never more than the width"
    for row in range(1, 5):
        assert readings["tuned"]["kl_from_final_bits"][row] < readings["norm"]["kl_from_final_bits"][row]
