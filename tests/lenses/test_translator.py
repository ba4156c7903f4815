import math

import pytest
import torch
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.functional.closed_form import AffineStart
from logos_pl.functional.lens_loss import lens_loss
from logos_pl.functional.training_basis import TrainingBasis, training_basis
from logos_pl.functional.unembedding import Unembedding
from logos_pl.lenses.translator import Translators


def randomised(num_rows: int, d_model: int = 6, rank: int = 2) -> Translators:
    translators = Translators(num_rows, d_model, rank)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in translators.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return translators


def train(translators: Translators, steps: int, lr: float = 1e-3) -> float:
    """A few steps towards a teacher that sees the input through a random map; the last divergence in nats."""
    generator = torch.Generator().manual_seed(5)
    d_model = translators.d_model
    x = torch.randn(translators.num_rows, 80, d_model, generator=generator)
    head = Unembedding(torch.randn(30, d_model, generator=generator))
    final_x = x.mean(0) @ torch.randn(d_model, d_model, generator=generator) / d_model**0.5
    optimizer = torch.optim.AdamW(translators.parameters(), lr=lr, weight_decay=1e-4)
    for _ in range(steps):
        loss = lens_loss(translators(x), final_x, translators.inv_tau(), head).kl_nats.mean()
        optimizer.zero_grad()
        (loss + 1e-4 * translators.penalty() + 1e-4 * translators.smoothness()).backward()
        optimizer.step()
    return loss.item()


def per_row_change(before: Tensor, after: Tensor) -> list[float]:
    return (after - before).flatten(1).abs().amax(1).tolist()


def test_starts_as_the_identity_with_temperature_exactly_one_and_no_roughness() -> None:
    translators = Translators(5, 8, 3)
    x = torch.randn(5, 4, 8)
    assert torch.equal(translators(x), x)
    assert translators.inv_tau().tolist() == [1.0] * 5
    assert translators.smoothness().item() == 0.0
    assert float(translators.U.detach().abs().min()) > 0.0


def test_the_start_is_the_seed_s_alone() -> None:
    torch.manual_seed(0)
    first = Translators(3, 8, 2, seed=1).U
    torch.manual_seed(1)
    assert torch.equal(first, Translators(3, 8, 2, seed=1).U)
    assert not torch.equal(first, Translators(3, 8, 2, seed=0).U)


def test_both_factors_have_moved_at_every_row_after_three_steps() -> None:
    translators = Translators(4, 12, 3)
    U, V = translators.U.detach().clone(), translators.V.detach().clone()
    train(translators, 3)
    # Weight decay alone moves U by at most lr · decay · |U| · steps, about 3e-7.
    assert min(per_row_change(U, translators.U.detach())) > 1e-4
    assert min(per_row_change(V, translators.V.detach())) > 1e-4


def test_with_both_factors_zero_neither_would_ever_move() -> None:
    """Each factor's gradient contains the other: zero times zero is a saddle that no optimiser leaves."""
    translators = Translators(4, 12, 3)
    with torch.no_grad():
        translators.U.zero_()
    train(translators, 5)
    assert int(translators.U.count_nonzero()) == 0
    assert int(translators.V.count_nonzero()) == 0
    assert float(translators.c.detach().abs().min()) > 0.0


def test_rows_map_as_the_formula_says_one_at_a_time() -> None:
    translators = randomised(4)
    x = torch.randn(4, 5, 6)
    U, V, c = translators.U, translators.V, translators.c
    wanted = torch.stack([x[r] + (x[r] @ U[r]) @ V[r].T + c[r] for r in range(4)])
    torch.testing.assert_close(translators(x), wanted)
    tau = torch.log1p(translators.log_tau.detach().double().exp()) + 1e-3
    torch.testing.assert_close(translators.inv_tau().double(), 1 / tau, rtol=1e-6, atol=0)


def test_an_index_takes_the_named_translators_in_the_named_order() -> None:
    translators = randomised(4)
    x, index = torch.randn(3, 5, 6), torch.tensor([2, 0, 2])
    whole = torch.randn(4, 5, 6)
    for slot, row in enumerate(index.tolist()):
        whole = whole.index_copy(0, torch.tensor([row]), x[slot : slot + 1])
        torch.testing.assert_close(translators(x, index)[slot], translators(whole)[row])
    assert torch.equal(translators.inv_tau(index), translators.inv_tau()[index])


@pytest.mark.parametrize("row", [0, 5])
def test_rows_without_a_translator_cannot_borrow_another_s(row: int) -> None:
    translators = randomised(4)
    with pytest.raises(IndexError):
        translators(torch.randn(1, 5, 6), torch.tensor([row - 1]))
    with pytest.raises(IndexError):
        translators.inv_tau(torch.tensor([row - 1]))


def test_rows_left_out_of_a_step_get_a_zero_gradient() -> None:
    translators = randomised(4)
    translators(torch.randn(2, 5, 6), torch.tensor([1, 3])).square().sum().backward()
    for parameter in (translators.U, translators.V, translators.c):
        assert parameter.grad is not None
        assert [bool(row.any()) for row in parameter.grad] == [False, True, False, True]


def test_the_bias_alone_is_what_the_map_adds_at_rank_0() -> None:
    translators, x = Translators(3, 6, 0), torch.randn(3, 5, 6)
    with torch.no_grad():
        translators.c.normal_()
    torch.testing.assert_close(translators(x), x + translators.bias()[:, None])
    index = torch.tensor([2, 0])
    assert torch.equal(translators.bias(index), torch.stack([translators.c[2], translators.c[0]]))


def test_regularisers_equal_their_sums_written_out() -> None:
    translators = randomised(3)
    U, V, c = (t.detach().double() for t in (translators.U, translators.V, translators.c))
    penalty = sum(float((t[r] ** 2).sum()) for t in (U, V, c) for r in range(3))
    smoothness = sum(float(((t[r + 1] - t[r]) ** 2).sum()) for t in (U, V) for r in range(2))
    assert translators.penalty().item() == pytest.approx(penalty, rel=1e-6)
    assert translators.smoothness().item() == pytest.approx(smoothness, rel=1e-6)


@pytest.mark.parametrize("num_rows", [0, 1])
def test_a_model_with_no_or_one_inner_row_has_a_lens_without_roughness(num_rows: int) -> None:
    translators = randomised(num_rows)
    x = torch.randn(num_rows, 5, 6)
    assert translators(x).shape == x.shape
    assert translators.inv_tau().shape == (num_rows,)
    (translators(x).sum() + translators.smoothness() + translators.penalty()).backward()
    assert translators.smoothness().item() == 0.0


def test_rank_zero_trains_bias_and_temperature_only() -> None:
    translators = Translators(3, 6, 0)
    c = translators.c.detach().clone()
    train(translators, 3)
    assert translators.U.numel() == translators.V.numel() == 0
    assert min(per_row_change(c, translators.c.detach())) > 0.0
    assert all(not math.isclose(value, 1.0) for value in translators.inv_tau().tolist())


def test_a_trained_map_beats_bias_and_temperature_alone() -> None:
    assert train(Translators(2, 8, 4), 60, lr=1e-2) < 0.8 * train(Translators(2, 8, 0), 60, lr=1e-2)


def test_a_rank_above_the_width_is_refused() -> None:
    with pytest.raises(InputError, match=r"Rank 7 .* width 6"):
        Translators(3, 6, 7)


def test_mixed_precision_around_the_translators_changes_nothing() -> None:
    translators, x = randomised(3), torch.randn(3, 5, 6)
    plain = translators(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(translators(x), plain)


def test_it_starts_at_given_maps_and_temperatures() -> None:
    generator = torch.Generator().manual_seed(0)
    U, V = torch.randn(2, 2, 4, 3, generator=generator, dtype=torch.float64)
    c, tau = torch.randn(2, 4, generator=generator, dtype=torch.float64), torch.tensor([0.05, 3.0], dtype=torch.float64)
    start = AffineStart(U, V, c, tau)
    translators = Translators(2, 4, 3)
    translators.start_at(start)
    x = torch.randn(2, 5, 4, generator=generator)
    wanted = x.double() @ (torch.eye(4) + U @ V.mT) + c[:, None]
    torch.testing.assert_close(translators(x).double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(1 / translators.inv_tau().double(), tau, rtol=1e-5, atol=1e-6)
    assert translators.U.requires_grad

    cold = Translators(2, 4, 3)
    cold.log_tau.requires_grad_(False)
    cold.start_at(start)
    assert cold.inv_tau().tolist() == [1.0, 1.0]


def a_basis(d_model: int = 6) -> TrainingBasis:
    covariance, fisher = (
        half @ half.T for half in torch.randn(2, d_model, d_model, generator=torch.Generator().manual_seed(4)).double()
    )
    return training_basis(covariance, fisher)


def in_a_basis() -> tuple[Translators, AffineStart]:
    generator = torch.Generator().manual_seed(0)
    U, V = torch.randn(2, 3, 6, 2, generator=generator, dtype=torch.float64)
    c, tau = torch.randn(3, 6, generator=generator, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    translators, start = Translators(3, 6, 2), AffineStart(U, V, c, tau)
    translators.start_at(start, a_basis())
    return translators, start


def mapped(x: Tensor, U: Tensor, V: Tensor, c: Tensor) -> Tensor:
    """docs/method.md §2, in float64."""
    return x.double() + x.double() @ U.double() @ V.double().mT + c.double()[:, None]


def test_in_a_basis_it_starts_at_the_same_maps_with_factors_of_equal_norms() -> None:
    translators, start = in_a_basis()
    x = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(translators(x).double(), mapped(x, *start[:3]), rtol=1e-5, atol=1e-5)
    assert (translators.U - start.U).abs().max() > 0.1
    torch.testing.assert_close(translators.U.mT @ translators.U, translators.V.mT @ translators.V, rtol=1e-4, atol=1e-4)


def test_in_a_basis_the_factors_are_multiplied_from_the_left_by_its_two_maps() -> None:
    translators, _ = in_a_basis()
    basis = a_basis()
    x = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1))
    wanted = mapped(
        x, basis.left.double() @ translators.U.double(), basis.right.double() @ translators.V.double(), translators.c
    )
    torch.testing.assert_close(translators(x).double(), wanted, rtol=1e-5, atol=1e-5)


def test_in_a_basis_the_gradient_is_that_of_the_plain_factors_through_its_maps() -> None:
    translators, _ = in_a_basis()
    basis, generator = a_basis(), torch.Generator().manual_seed(1)
    x, weight = torch.randn(2, 3, 5, 6, generator=generator)
    (translators(x) * weight).sum().backward()

    U, V = (
        (part.double() @ factor.detach().double()).requires_grad_()
        for part, factor in zip(basis, (translators.U, translators.V), strict=True)
    )
    (mapped(x, U, V, translators.c.detach()) * weight.double()).sum().backward()
    for part, trained, plain in zip(basis, (translators.U, translators.V), (U, V), strict=True):
        assert trained.grad is not None
        assert plain.grad is not None
        torch.testing.assert_close(trained.grad.double(), part.double().T @ plain.grad, rtol=1e-4, atol=1e-4)


def test_out_of_its_basis_it_is_the_same_lens_and_remembers_none() -> None:
    translators, _ = in_a_basis()
    plain = translators.in_plain_basis()
    x = torch.randn(3, 5, 6, generator=torch.Generator().manual_seed(1))
    assert plain.basis is None
    torch.testing.assert_close(plain(x), translators(x), rtol=1e-5, atol=1e-5)
    exact = a_basis().left.double() @ translators.U.detach().double()
    assert torch.equal(plain.U, exact.float()), "changed in fp64, rounded once"
    assert set(translators.state_dict()) == {"U", "V", "c", "log_tau"}
    assert torch.equal(plain.in_plain_basis().U, plain.U)
