import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from logos_pl.functional import blocks, unembedding
from logos_pl.functional.lens_loss import lens_loss
from logos_pl.functional.unembedding import Unembedding, unembed
from tests.largest_tensor import LargestTensor

ROWS, POS, D, VOCAB = 5, 7, 6, 33


def make(
    bias: bool, scale: float, softcap: float | None, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Unembedding]:
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    head = Unembedding(draw(VOCAB, D), draw(VOCAB) if bias else None, scale, softcap)
    inv_tau = 0.5 + torch.rand(ROWS, generator=generator, dtype=torch.float64).to(dtype)
    return draw(ROWS, POS, D), draw(POS, D), inv_tau, head


def naive_logits(x: Tensor, head: Unembedding) -> Tensor:
    z = x @ head.weight.double().T
    if head.bias is not None:
        z = z + head.bias.double()
    z = z * head.scale
    return z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap)


def naive_kl(x: Tensor, final_x: Tensor, inv_tau: Tensor, head: Unembedding) -> Tensor:
    log_p = torch.log_softmax(naive_logits(final_x, head), -1)
    log_q = torch.log_softmax(naive_logits(x, head) * inv_tau[:, None, None], -1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def gradients(
    loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, inv_tau: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    x, inv_tau = x.clone().requires_grad_(), inv_tau.clone().requires_grad_()
    kl = loss(x, inv_tau)
    kl.backward(weights.to(kl.dtype))
    assert x.grad is not None
    assert inv_tau.grad is not None
    return kl.detach(), x.grad, inv_tau.grad


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b).norm() / b.norm())


HEADS = list(itertools.product([False, True], [1.0, 0.25], [None, 3.0]))
# Bytes of one row of fp64 logits: 264. One (row, position); 3 rows of one position; 2 positions; everything.
BLOCKS = [1, 3 * 264, 11 * 264, 2**28]


@pytest.mark.parametrize(("bias", "scale", "softcap"), HEADS)
@pytest.mark.parametrize("block_bytes", BLOCKS)
@pytest.mark.parametrize("slice_bytes", [1, 700, 2**20])
def test_loss_and_gradients_equal_autograd_in_fp64_whatever_the_blocks_and_weights(
    bias: bool,
    scale: float,
    softcap: float | None,
    block_bytes: int,
    slice_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks, "_CPU_SLICE_BYTES", slice_bytes)
    x, final_x, inv_tau, head = make(bias, scale, softcap)
    weights = torch.randn(ROWS, POS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = gradients(lambda x, t: lens_loss(x, final_x, t, head, block_bytes=block_bytes).kl_nats, x, inv_tau, weights)
    wanted = gradients(lambda x, t: naive_kl(x, final_x, t, head), x, inv_tau, weights)
    assert all(relative(a, b) < 1e-12 for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(("bias", "scale", "softcap"), HEADS)
def test_loss_and_gradients_equal_fp64_autograd_to_1e_5_in_fp32(
    bias: bool, scale: float, softcap: float | None
) -> None:
    x, final_x, inv_tau, head = make(bias, scale, softcap, torch.float32)
    weights = torch.rand(ROWS, POS)
    found = gradients(lambda x, t: lens_loss(x, final_x, t, head, block_bytes=999).kl_nats, x, inv_tau, weights)
    wanted = gradients(
        lambda x, t: naive_kl(x, final_x.double(), t, head), x.double(), inv_tau.double(), weights.double()
    )
    assert found[0].dtype == torch.float32
    assert all(relative(a, b) < 1e-5 for a, b in zip(found, wanted, strict=True))


def test_finite_differences_agree_with_both_gradients() -> None:
    x, final_x, inv_tau, head = make(True, 0.5, 4.0)
    x, inv_tau = x[:2, :3].clone().requires_grad_(), inv_tau[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, t: lens_loss(x, final_x[:3], t, head, block_bytes=600).kl_nats, (x, inv_tau)
    )


def test_the_final_entropy_turns_the_divergence_into_cross_entropy() -> None:
    x, final_x, inv_tau, head = make(True, 0.5, 4.0)
    loss = lens_loss(x, final_x, inv_tau, head, block_bytes=600)
    p = torch.softmax(naive_logits(final_x, head), -1)
    log_q = torch.log_softmax(naive_logits(x, head) * inv_tau[:, None, None], -1)
    torch.testing.assert_close(loss.kl_nats + loss.final_entropy_nats, -(p * log_q).sum(-1), rtol=1e-12, atol=0)


def test_an_exact_identity_for_heads_without_soft_cap_gives_the_same_divergence() -> None:
    """KL(P_T ‖ P_S) = A(y_S) − A(y_T) − e(y_T)·(y_S − y_T), A = logsumexp(W y), e = softmax(W y) W."""
    x, y_final, _, head = make(False, 1.0, None)
    loss = lens_loss(x, y_final, torch.ones(ROWS, dtype=torch.float64), head)
    a = torch.logsumexp(x @ head.weight.T, -1) - torch.logsumexp(y_final @ head.weight.T, -1)
    e = torch.softmax(y_final @ head.weight.T, -1) @ head.weight
    torch.testing.assert_close(loss.kl_nats, a - (e * (x - y_final)).sum(-1), rtol=1e-11, atol=0)


def test_only_what_asks_for_a_gradient_gets_one_and_the_final_distribution_and_the_head_never_do() -> None:
    x, final_x, inv_tau, head = make(True, 1.0, None)
    for part in (final_x, head.weight, head.bias):
        assert part is not None
        part.requires_grad_()
    inv_tau.requires_grad_()
    loss = lens_loss(x, final_x, inv_tau, head)
    assert not loss.final_entropy_nats.requires_grad
    loss.kl_nats.sum().backward()
    assert inv_tau.grad is not None
    assert all(part is not None and part.grad is None for part in (x, final_x, head.weight, head.bias))


def test_a_second_derivative_is_refused_instead_of_being_wrong() -> None:
    x, final_x, inv_tau, head = make(False, 1.0, None)
    x.requires_grad_()
    (first,) = torch.autograd.grad(lens_loss(x, final_x, inv_tau, head).kl_nats.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_divergence_near_zero_is_accurate_in_fp32_and_not_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, final_x = torch.randn(4000, 64, generator=generator) / 4, torch.randn(16, 64, generator=generator)
    noise = torch.randn(16, 64, generator=generator)
    x = torch.stack([final_x + size * noise for size in (1e-2, 1e-3, 1e-4)])
    kl = lens_loss(x, final_x, torch.ones(3), Unembedding(weight)).kl_nats
    exact = naive_kl(x.double(), final_x.double(), torch.ones(3).double(), Unembedding(weight))
    assert float(exact.min()) < 2e-8
    assert float((kl - exact).abs().max()) < 5e-8
    assert float(kl.min()) > -1e-8


def test_a_row_equal_to_row_n_has_no_divergence_and_no_gradient() -> None:
    _, final_x, _, head = make(True, 0.5, 3.0, torch.float32)
    x = final_x[None].clone().requires_grad_()
    loss = lens_loss(x, final_x, torch.ones(1), head)
    loss.kl_nats.sum().backward()
    assert loss.kl_nats.count_nonzero() == 0
    assert x.grad is not None
    assert x.grad.count_nonzero() == 0


def test_distributions_so_far_apart_that_probabilities_underflow_stay_finite() -> None:
    weight = torch.eye(40)
    x, final_x = 400.0 * torch.eye(40)[None, :4], 400.0 * torch.eye(40)[4:8]
    x.requires_grad_()
    kl = lens_loss(x, final_x, torch.ones(1), Unembedding(weight)).kl_nats
    kl.sum().backward()
    torch.testing.assert_close(kl, torch.full((1, 4), 400.0))
    assert x.grad is not None
    torch.testing.assert_close(x.grad[0], torch.eye(40)[:4] - torch.eye(40)[4:8])


def count_flops(rows: int, pos: int, d: int, vocab: int, *, grad: bool, block_bytes: int = 2**28) -> float:
    """Matrix-product FLOP per (row, position), in units of d · vocab."""
    x = torch.randn(rows, pos, d, requires_grad=grad)
    counter = FlopCounterMode(display=False)
    with counter:
        loss = lens_loss(x, torch.randn(pos, d), torch.ones(rows), Unembedding(torch.randn(vocab, d)),
                         block_bytes=block_bytes)  # fmt: skip
        if grad:
            loss.kl_nats.sum().backward()
    return counter.get_total_flops() / (rows * pos * d * vocab)


def test_a_step_costs_four_products_per_row_and_position_and_two_more_per_position() -> None:
    assert count_flops(8, 5, 32, 300, grad=True) == pytest.approx(4.25)
    assert count_flops(8, 5, 32, 300, grad=True, block_bytes=3 * 300 * 4) == pytest.approx(4.25)


def test_without_a_gradient_the_gradient_product_is_not_made() -> None:
    assert count_flops(8, 5, 32, 300, grad=False) == pytest.approx(2.25)
    x = torch.randn(8, 5, 32, requires_grad=True)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        lens_loss(x, torch.randn(5, 32), torch.ones(8), Unembedding(torch.randn(300, 32)))
    assert counter.get_total_flops() == pytest.approx(2.25 * 8 * 5 * 32 * 300)


@pytest.mark.parametrize(("block_rows", "largest"), [(24, 24), (3, 3), (8, 8)])
def test_no_tensor_is_larger_than_a_block(block_rows: int, largest: int) -> None:
    rows, pos, d, vocab = 8, 40, 4, 1000
    x = torch.randn(rows, pos, d, requires_grad=True)
    mode = LargestTensor()
    with mode:
        kl = lens_loss(x, torch.randn(pos, d), torch.ones(rows), Unembedding(torch.randn(vocab, d)),
                       block_bytes=block_rows * vocab * 4).kl_nats  # fmt: skip
        kl.sum().backward()
    assert mode.numel == max(largest * vocab, d * vocab)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_half_precision_head_is_never_widened_whole(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, pos, d, vocab = 4, 10, 32, 2000
    monkeypatch.setattr(unembedding, "WIDENED_BYTES", 300 * d * 4)
    weight = torch.randn(vocab, d).to(dtype)
    x = torch.randn(rows, pos, d, requires_grad=True)
    mode = LargestTensor(weight)
    with mode:
        block = lens_loss(x, torch.randn(pos, d), torch.ones(rows), Unembedding(weight), block_bytes=4 * vocab * 4)
        block.kl_nats.sum().backward()
    assert mode.numel == 300 * d, "a piece of the vocabulary is more than a block of logits"


@pytest.mark.parametrize(("rows", "pos"), [(0, 3), (3, 0)])
def test_no_rows_or_no_positions_give_an_empty_loss_that_backward_accepts(rows: int, pos: int) -> None:
    x = torch.randn(rows, pos, 4, requires_grad=True)
    loss = lens_loss(x, torch.randn(pos, 4), torch.ones(rows), Unembedding(torch.randn(9, 4)))
    assert loss.kl_nats.shape == (rows, pos)
    loss.kl_nats.sum().backward()


NEEDS_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 3e-3), (torch.float16, 1e-3)])
@pytest.mark.parametrize("distance", [1.0, 1e-2])
def test_a_half_precision_head_keeps_the_gradient_accurate_near_convergence(
    device: str, dtype: torch.dtype, tolerance: float, distance: float
) -> None:
    """Operands are rounded, logits and softmax are not; inputs lie on the half grid so that only Q − P is rounded."""
    generator = torch.Generator().manual_seed(3)
    weight = (torch.randn(30_000, 64, generator=generator) / 8).to(dtype).to(device)
    final_x = (2 * torch.randn(8, 64, generator=generator)).to(dtype).float().to(device)
    x = (final_x + distance * torch.randn(1, 8, 64, generator=generator).to(device)).to(dtype).float()
    head, one, weights = Unembedding(weight), torch.ones(1, device=device), torch.ones(1, 8, device=device)
    found = gradients(lambda x, t: lens_loss(x, final_x, t, head).kl_nats, x, one, weights)
    wanted = gradients(lambda x, t: naive_kl(x, final_x.double(), t, head), x.double(), one.double(), weights.double())
    assert all(relative(a, b) < tolerance for a, b in zip(found, wanted, strict=True))


def test_a_tiny_gradient_survives_a_head_in_fp16() -> None:
    """Every |Q − P| is below fp16's smallest number here."""
    vocab = 60_000
    weight = torch.ones(vocab, 4, dtype=torch.float16)
    weight[::2] = -1.0
    x, final_x = torch.full((1, 1, 4), 2.0**-10), torch.zeros(1, 4)
    found = gradients(lambda x, t: lens_loss(x, final_x, t, Unembedding(weight)).kl_nats, x, torch.ones(1),
                      torch.ones(1, 1))  # fmt: skip
    assert math.tanh(2.0**-8) / vocab < 2.0**-23
    torch.testing.assert_close(found[1], torch.full((1, 1, 4), math.tanh(2.0**-8)), rtol=1e-3, atol=0)


def test_mixed_precision_around_the_loss_changes_nothing() -> None:
    x, final_x, inv_tau, head = make(False, 1.0, None, torch.float32)
    plain, logits = lens_loss(x, final_x, inv_tau, head).kl_nats, unembed(x, head)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(lens_loss(x, final_x, inv_tau, head).kl_nats, plain)
        assert torch.equal(unembed(x, head), logits)
