"""The lenses in what a fit has saved, as an export would write them."""

from collections import OrderedDict
from typing import Any

import pytest
import torch

from logos_pl.artifacts.checkpoint_lens import basis_of, bias_only_in, tuned_in
from logos_pl.artifacts.weights import encode, weights_of
from logos_pl.errors import InputError
from logos_pl.functional.training_basis import TrainingBasis
from tests.artifacts.lenses import make_translators

ROWS, WIDTH, RANK = 3, 16, 4


def checkpoint(**changes: Any) -> dict[str, Any]:
    """The parts that lenses are read from; the trained weights beside the averages are all 7."""
    averages = {"translators": make_translators(), "bias_only": make_translators(rank=0)}
    state: OrderedDict[str, torch.Tensor] = OrderedDict()
    for lens, average in averages.items():
        for name, value in average.state_dict().items():
            state[f"{lens}.{name}"] = torch.full_like(value, 7)
            state[f"averages.{lens}.{name}"] = value
    return {"state_dict": state, "lens_basis": None, "lens_identity": {"bias_only": True}} | changes


def make_basis(width: int = WIDTH) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {name: torch.randn(width, width, generator=generator) for name in ("left", "right")}


def test_both_lenses_are_the_running_averages_and_not_the_last_weights() -> None:
    for lens, wanted in (
        (tuned_in(checkpoint()), make_translators()),
        (bias_only_in(checkpoint()), make_translators(rank=0)),
    ):
        assert lens is not None
        for name, value in wanted.state_dict().items():
            assert torch.equal(lens.state_dict()[name], value), name


def test_a_lens_trained_in_a_basis_computes_the_same_map_in_the_plain_one() -> None:
    basis = make_basis()
    lens, trained = tuned_in(checkpoint(lens_basis=basis)), make_translators()
    x = torch.randn(ROWS, 5, WIDTH, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    left, right = (basis[name].double() for name in ("left", "right"))
    U, V, c = (tensor.detach().double() for tensor in (trained.U, trained.V, trained.c))
    wanted = x + (x @ left @ U) @ (right @ V).mT + c[:, None]

    assert lens.basis is None
    with torch.no_grad():
        torch.testing.assert_close(lens(x.float()).double(), wanted, rtol=1e-5, atol=1e-5)
    assert encode(weights_of(lens)).nbytes > 0


def test_the_bias_only_lens_has_no_map_that_a_basis_could_change() -> None:
    lens = bias_only_in(checkpoint(lens_basis=make_basis()))
    assert lens is not None
    assert (lens.basis, lens.rank) == (None, 0)
    assert torch.equal(lens.c, make_translators(rank=0).c)


def test_a_fit_without_a_bias_only_lens_has_none() -> None:
    assert bias_only_in(checkpoint(lens_identity={"bias_only": False})) is None


def test_the_basis_is_the_recorded_one_or_the_plain_one() -> None:
    recorded = make_basis()
    found = basis_of(checkpoint(lens_basis=recorded))
    assert isinstance(found, TrainingBasis)
    assert torch.equal(found.left, recorded["left"])
    assert torch.equal(found.right, recorded["right"])
    assert basis_of(checkpoint()) is None


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_basis_of_another_width_is_refused(side: str) -> None:
    basis = make_basis() | {side: torch.eye(2)}
    with pytest.raises(InputError, match="lens_basis does not match the width of its lens: give another checkpoint"):
        tuned_in(checkpoint(lens_basis=basis))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("V", torch.full((ROWS, WIDTH, RANK), torch.inf), "tensor V holds 192 numbers that are NaN or infinite"),
        ("V", torch.zeros(ROWS, WIDTH, RANK + 1), r"tensor V has shape \(3, 16, 5\)"),
        ("c", torch.zeros(ROWS, WIDTH, dtype=torch.bfloat16), r"tensor c is torch\.bfloat16"),
        ("log_tau", torch.zeros(ROWS - 1), r"tensor log_tau has shape \(2,\)"),
        ("extra", torch.zeros(1), r"tensor extra has shape \(1,\)"),
    ],
)
def test_wrong_tensors_are_refused_by_name(name: str, value: torch.Tensor, says: str) -> None:
    whole = checkpoint()
    whole["state_dict"][f"averages.translators.{name}"] = value
    with pytest.raises(InputError, match=says):
        tuned_in(whole)
