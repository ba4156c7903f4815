import pytest
import torch

from logos_pl.errors import InputError
from logos_pl.lenses.norm import NormLens
from logos_pl.lenses.raw import RawLens
from tests.lenses.toy_head import D_MODEL, residuals, toy_head


def by_hand(h: torch.Tensor) -> torch.Tensor:
    """Logits of the toy head in fp64 without its LayerNorm: projection, unembedding, times 2, soft-cap at 5."""
    _, project, lm_head = toy_head().anatomy.body.double().children()
    return 5.0 * torch.tanh(2.0 * lm_head(project(h.double())) / 5.0)


def test_every_row_goes_through_the_head_but_for_its_norm() -> None:
    h, lens = residuals(5), RawLens(toy_head())
    torch.testing.assert_close(lens.logits(h, range(5)).double(), by_hand(h), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(lens.logits(h, range(5)), NormLens(toy_head()).logits(h, range(5)), rtol=0.1)


def test_decode_inputs_are_the_projected_residuals_at_temperature_one() -> None:
    head = toy_head()
    x, inv_tau = RawLens(head).decode_inputs(residuals(2), [0, 3])
    assert torch.equal(x, head.project(residuals(2)))
    assert inv_tau.tolist() == [1.0, 1.0]


def test_residuals_in_half_precision_are_decoded_in_fp32() -> None:
    h = residuals(5).bfloat16()
    assert RawLens(toy_head()).decode_inputs(h, range(5))[0].dtype == torch.float32
    assert torch.equal(RawLens(toy_head()).logits(h, range(5)), RawLens(toy_head()).logits(h.float(), range(5)))


@pytest.mark.parametrize("rows", [[-1], [5], [0, 7]])
def test_rows_the_model_does_not_have_are_refused_with_those_it_has(rows: list[int]) -> None:
    with pytest.raises(InputError, match=f"{rows[-1]}.* 0 to 4"):
        RawLens(toy_head()).logits(torch.randn(len(rows), 3, D_MODEL), rows)
