from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from logos_pl.artifacts.checkpoint_file import checkpoint_bytes
from logos_pl.artifacts.tuned_lens import load_lenses
from logos_pl.errors import InputError
from logos_pl.kinds.checkpoint import CheckpointOrigin, read_lenses
from tests.artifacts.lenses import make_translators


def test_the_lenses_of_the_best_checkpoint_are_the_exported_ones_to_the_last_bit(fitted: Path) -> None:
    (best,) = fitted.rglob("best.ckpt")
    exported = load_lenses(fitted / "lenses" / "tiny-llama")
    lenses = read_lenses(best)

    assert exported.bias_only is not None
    assert lenses.bias_only is not None
    for wanted, found in ((exported.tuned, lenses.tuned), (exported.bias_only, lenses.bias_only)):
        for name, value in wanted.translators.state_dict().items():
            assert torch.equal(found.state_dict()[name], value)
    assert lenses.tuned.basis is None
    provenance = exported.provenance
    assert lenses.origin == CheckpointOrigin(
        "tiny-llama", "tiny-llama", provenance.model_commit, "final", provenance.optim.exported_step, 0.1
    )


def write(path: Path, **changes: Any) -> Path:
    """A checkpoint as far as its lenses go."""
    averages = {"translators": make_translators(), "bias_only": make_translators(rank=0)}
    state = OrderedDict(
        (f"averages.{lens}.{name}", value) for lens, of in averages.items() for name, value in of.state_dict().items()
    )
    checkpoint = {
        "epoch": 1, "global_step": 8, "pytorch-lightning_version": "2.6.6", "state_dict": state, "loops": {},
        "callbacks": {}, "optimizer_states": [], "lr_schedulers": [],
        "TrainingText": {"identity": {"held_out_frac": 0.02}},
        "lens_identity": {
            "model_id": "org/tiny", "model_commit": "c0ffee", "decoding_norm": "next", "bias_only": True,
        },
        "lens_start": None, "lens_basis": None, "lens_validation": {},
    }  # fmt: skip
    path.write_bytes(checkpoint_bytes(checkpoint | changes))
    return path


def test_a_checkpoint_says_whose_lens_it_holds(tmp_path: Path) -> None:
    lenses = read_lenses(write(tmp_path / "a.ckpt"))
    assert lenses.origin == CheckpointOrigin("org/tiny", "tiny", "c0ffee", "next", 8, 0.02)
    assert torch.equal(lenses.tuned.U, make_translators().U)
    without = {"model_id": "org/tiny", "model_commit": "c0ffee", "decoding_norm": "next", "bias_only": False}
    assert read_lenses(write(tmp_path / "b.ckpt", lens_identity=without)).bias_only is None


Damage = Callable[[OrderedDict[str, torch.Tensor]], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "no lens": (lambda state: state.clear(), "The checkpoint's lens is invalid"),
    "a tensor is missing": (lambda state: state.pop("averages.translators.c"), "tensor U has shape"),
    "a number is NaN": (
        lambda state: state["averages.translators.V"].fill_(torch.nan),
        "tensor V holds 192 numbers that are NaN",
    ),
    "another type": (
        lambda state: state.update({"averages.bias_only.c": torch.zeros(3, 16, dtype=torch.float16)}),
        "is torch.float16",
    ),
    "a tensor without dimensions": (
        lambda state: state.update({"averages.translators.U": torch.zeros(())}),
        "The checkpoint's lens is invalid",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_lens_that_no_fit_writes_is_refused(damage: str, tmp_path: Path) -> None:
    change, wanted = DAMAGES[damage]
    whole = torch.load(write(tmp_path / "whole.ckpt"), weights_only=True)["state_dict"]
    change(whole)
    with pytest.raises(InputError, match=wanted):
        read_lenses(write(tmp_path / "damaged.ckpt", state_dict=whole))


@pytest.mark.parametrize("part", ["lens_identity", "TrainingText"])
def test_a_checkpoint_that_does_not_say_whose_it_is_is_refused(part: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="The checkpoint's lens is invalid"):
        read_lenses(write(tmp_path / "a.ckpt", **{part: {}}))
