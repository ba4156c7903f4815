import pytest
import torch
from torch import Tensor

from logos_pl.functional.contributions import frozen_scale, logit_contributions, rounding_bound

GENERATOR = torch.Generator().manual_seed(4)
COMPONENTS = torch.randn(7, 24, generator=GENERATOR, dtype=torch.float64) * 3 + 0.5
DIRECTION = torch.randn(3, 24, generator=GENERATOR, dtype=torch.float64)


def by_torch(h: Tensor, centred: bool, eps: float) -> Tensor:
    """The norm without γ and β, by PyTorch's own functions."""
    functional = torch.nn.functional
    return functional.layer_norm(h, h.shape, eps=eps) if centred else functional.rms_norm(h, h.shape, eps=eps)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("eps", [1e-12, 1e-5, 0.3])
def test_contributions_add_up_to_the_logits_of_the_normalised_sum(centred: bool, eps: float) -> None:
    h = COMPONENTS.sum(dim=0)
    got = logit_contributions(COMPONENTS, DIRECTION, frozen_scale(h, eps, centred), centred)
    assert got.shape == (7, 3)
    torch.testing.assert_close(got.sum(dim=0), DIRECTION @ by_torch(h, centred, eps), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("centred", [False, True])
def test_a_contribution_is_linear_in_its_component_and_knows_no_other(centred: bool) -> None:
    scale = torch.tensor(0.7, dtype=torch.float64)
    whole = logit_contributions(COMPONENTS, DIRECTION, scale, centred)
    changed = COMPONENTS.clone()
    changed[2] *= -5.0
    got = logit_contributions(changed, DIRECTION, scale, centred)
    torch.testing.assert_close(got[2], -5.0 * whole[2], rtol=1e-12, atol=1e-12)
    assert torch.equal(got[[0, 1, 3, 4, 5, 6]], whole[[0, 1, 3, 4, 5, 6]])


def test_a_constant_component_contributes_nothing_through_a_norm_that_centres() -> None:
    constant = torch.full((1, 24), 11.0, dtype=torch.float64)
    scale = torch.tensor(0.7, dtype=torch.float64)
    assert float(logit_contributions(constant, DIRECTION, scale, centred=True).abs().max()) < 1e-12
    assert float(logit_contributions(constant, DIRECTION, scale, centred=False).abs().max()) > 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("two_at_once", [False, True])
def test_the_rounding_of_a_sum_stays_within_its_bound_and_a_missing_vector_does_not(
    dtype: torch.dtype, two_at_once: bool
) -> None:
    vectors = (torch.randn(41, 500, generator=GENERATOR) * torch.logspace(-3, 2, 500)).to(dtype)
    h = vectors[0]
    for a, b in zip(vectors[1::2], vectors[2::2], strict=True):
        h = h + (a + b) if two_at_once else (h + a) + b
    added = vectors.double()
    bound = rounding_bound(added, dtype)
    rest = (h.double() - added.sum(dim=0)).abs()
    assert (rest <= bound).all()
    assert float((rest / bound).max()) > 0.02, "the bound is of the size of the rounding"
    rest_without_one = (h.double() - added[:-1].sum(dim=0)).abs()
    assert (rest_without_one > bound).double().mean() > 0.1
