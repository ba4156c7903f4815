import itertools

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from logos_pl.functional import blocks
from logos_pl.functional.bias_loss import bias_cross_entropy
from logos_pl.functional.unembedding import Unembedding

ROWS, POS, D, VOCAB = 5, 7, 6, 33
ROW_BYTES = VOCAB * 8


def draw(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def make(
    with_bias: bool, scale: float, softcap: float | None, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor, Tensor, Unembedding]:
    head_bias = draw(VOCAB, seed=1, dtype=dtype) if with_bias else None
    head = Unembedding(draw(VOCAB, D, seed=2, dtype=dtype), head_bias, scale, softcap)
    inv_tau = (0.5 + draw(ROWS, seed=3).sigmoid()).to(dtype)
    x, final_x = draw(ROWS, POS, D, seed=4, dtype=dtype), draw(POS, D, seed=5, dtype=dtype)
    return x, draw(ROWS, D, seed=6, dtype=dtype), inv_tau, final_x, head


def by_autograd(
    x: Tensor, bias: Tensor, inv_tau: Tensor, final_x: Tensor, head: Unembedding, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Cross-entropies and gradients in float64 from materialised logits, the definition written out."""
    x, final_x, weights = x.double(), final_x.double(), weights.double()
    bias, inv_tau = (t.detach().double().requires_grad_() for t in (bias, inv_tau))

    def logits(y: Tensor) -> Tensor:
        z = y @ head.weight.double().T + (0.0 if head.bias is None else head.bias.double())
        return head.scale * z if head.softcap is None else head.softcap * torch.tanh(head.scale * z / head.softcap)

    p = torch.softmax(logits(final_x), -1)
    log_q = torch.log_softmax(logits(x + bias[:, None]) * inv_tau[:, None, None], -1)
    cross_entropy = -(p * log_q).sum(-1).mean(1)
    by_bias, by_inv_tau = torch.autograd.grad(cross_entropy, (bias, inv_tau), weights)
    return cross_entropy.detach(), by_bias, by_inv_tau


def by_sums(
    x: Tensor,
    bias: Tensor,
    inv_tau: Tensor,
    final_x: Tensor,
    head: Unembedding,
    weights: Tensor,
    block_bytes: int = 2**28,
) -> tuple[Tensor, Tensor, Tensor]:
    bias, inv_tau = (t.detach().clone().requires_grad_() for t in (bias, inv_tau))
    loss = bias_cross_entropy(x, bias, inv_tau, final_x, head, block_bytes=block_bytes)
    by_bias, by_inv_tau = torch.autograd.grad(loss, (bias, inv_tau), weights.to(loss.dtype))
    return loss.detach(), by_bias, by_inv_tau


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b).norm() / b.norm())


HEADS = list(itertools.product([False, True], [1.0, 0.25], [None, 3.0]))


@pytest.mark.parametrize(("with_bias", "scale", "softcap"), HEADS)
@pytest.mark.parametrize("block_bytes", [1, 3 * ROW_BYTES, 11 * ROW_BYTES, 2**28])
@pytest.mark.parametrize("slice_bytes", [1, 700, 2**20])
def test_loss_and_gradients_equal_autograd_in_fp64_whatever_the_blocks_and_weights(
    with_bias: bool,
    scale: float,
    softcap: float | None,
    block_bytes: int,
    slice_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(blocks, "_CPU_SLICE_BYTES", slice_bytes)
    inputs, weights = make(with_bias, scale, softcap), draw(ROWS, seed=7)
    found = by_sums(*inputs, weights, block_bytes)
    assert all(relative(a, b) < 1e-12 for a, b in zip(found, by_autograd(*inputs, weights), strict=True))


@pytest.mark.parametrize(("with_bias", "scale", "softcap"), HEADS)
def test_in_fp32_they_are_good_to_1e_5(with_bias: bool, scale: float, softcap: float | None) -> None:
    inputs, weights = make(with_bias, scale, softcap, torch.float32), draw(ROWS, seed=7)
    found = by_sums(*inputs, weights, block_bytes=999)
    assert found[0].dtype == found[1].dtype == found[2].dtype == torch.float32
    assert all(relative(a, b) < 1e-5 for a, b in zip(found, by_autograd(*inputs, weights), strict=True))


NEEDS_CUDA = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_a_half_precision_head_keeps_the_gradient_accurate_over_many_positions(
    device: str, dtype: torch.dtype, tolerance: float
) -> None:
    """So many that their sum, lifted out of fp16's subnormal numbers, would not fit into fp16."""
    pos = 64
    head = Unembedding((draw(3000, D, seed=2) / 2).to(dtype).to(device))
    # On the half grid, so that only Q − P is rounded; the rows put nearly all of Q where P has little.
    x = (draw(1, 1, D, seed=3) * 8).to(dtype).float().expand(ROWS, pos, D).contiguous().to(device)
    final_x = draw(pos, D, seed=4).to(dtype).float().to(device)
    bias, inv_tau = torch.zeros(ROWS, D, device=device), torch.ones(ROWS, device=device)
    weights = torch.ones(ROWS, device=device)
    found = by_sums(x, bias, inv_tau, final_x, head, weights)
    wanted = by_autograd(x, bias, inv_tau, final_x, head, weights)
    assert all(relative(a, b) < tolerance for a, b in zip(found, wanted, strict=True))


def test_positions_and_final_distribution_and_head_are_constants() -> None:
    x, bias, inv_tau, final_x, head = make(True, 1.0, None)
    constants = [x, final_x, head.weight, *([] if head.bias is None else [head.bias])]
    for tensor in (*constants, bias, inv_tau):
        tensor.requires_grad_()
    bias_cross_entropy(x, bias, inv_tau, final_x, head).sum().backward()
    assert all(tensor.grad is None for tensor in constants)
    assert bias.grad is not None
    assert inv_tau.grad is not None


def test_a_temperature_that_is_not_trained_gets_no_gradient() -> None:
    x, bias, inv_tau, final_x, head = make(True, 1.0, None)
    bias.requires_grad_()
    bias_cross_entropy(x, bias, inv_tau, final_x, head).sum().backward()
    assert inv_tau.grad is None
    assert bias.grad is not None


def test_a_step_costs_two_products_per_row_and_position_and_as_much_per_row_and_per_position() -> None:
    rows, pos, d, vocab = 8, 5, 32, 300
    bias = torch.zeros(rows, d, requires_grad=True)
    counter = FlopCounterMode(display=False)
    with counter:
        head = Unembedding(torch.randn(vocab, d))
        loss = bias_cross_entropy(torch.randn(rows, pos, d), bias, torch.ones(rows), torch.randn(pos, d), head)
        loss.sum().backward()
    assert counter.get_total_flops() == 2 * d * vocab * (rows * pos + rows + pos)


@pytest.mark.parametrize(("rows", "pos"), [(0, 3), (3, 0)])
def test_no_rows_or_no_positions_give_a_loss_of_zero_that_backward_accepts(rows: int, pos: int) -> None:
    bias = torch.zeros(rows, 4, requires_grad=True)
    head = Unembedding(torch.randn(9, 4))
    loss = bias_cross_entropy(torch.randn(rows, pos, 4), bias, torch.ones(rows), torch.randn(pos, 4), head)
    assert torch.equal(loss, torch.zeros(rows))
    loss.sum().backward()
    assert torch.equal(bias.grad, torch.zeros(rows, 4))


def test_a_second_derivative_is_refused_instead_of_being_wrong() -> None:
    x, bias, inv_tau, final_x, head = make(False, 1.0, None)
    bias.requires_grad_()
    loss = bias_cross_entropy(x, bias, inv_tau, final_x, head).square().sum()
    (first,) = torch.autograd.grad(loss, bias, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_mixed_precision_around_the_loss_changes_nothing() -> None:
    inputs = make(False, 1.0, None, torch.float32)
    plain = bias_cross_entropy(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(bias_cross_entropy(*inputs), plain)
