import pytest
import torch
from torch import Tensor

from logos_pl.functional import unembedding
from logos_pl.functional.fisher import fisher_metric
from logos_pl.functional.unembedding import Unembedding
from tests.largest_tensor import LargestTensor

VOCAB, WIDTH, POSITIONS = 13, 4, 3


def head_with(bias: bool, scale: float, softcap: float | None) -> Unembedding:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(VOCAB, WIDTH, generator=generator)
    return Unembedding(weight, torch.randn(VOCAB, generator=generator) if bias else None, scale, softcap)


def kl(x: Tensor, y: Tensor, head: Unembedding) -> Tensor:
    """KL(P_y ‖ P_x) in nats at one position, from the definition."""

    def log_p(v: Tensor) -> Tensor:
        z = head.scale * (head.weight.double() @ v + (0 if head.bias is None else head.bias.double()))
        return torch.log_softmax(z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap), dim=0)

    return (log_p(y).exp() * (log_p(y) - log_p(x))).sum()


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("scale", [1.0, 0.3])
@pytest.mark.parametrize("bias", [False, True])
def test_it_is_the_mean_second_derivative_of_the_divergence(bias: bool, scale: float, softcap: float | None) -> None:
    head = head_with(bias, scale, softcap)
    y = torch.randn(POSITIONS, WIDTH, generator=torch.Generator().manual_seed(1))
    second = [torch.autograd.functional.hessian(lambda x, at=at: kl(x, at, head), at) for at in y.double()]
    wanted = torch.stack(second).mean(0)

    whole = fisher_metric(y, head)
    torch.testing.assert_close(whole, wanted, rtol=1e-5, atol=1e-6)
    one_position_at_a_time = fisher_metric(y, head, block_bytes=1)
    torch.testing.assert_close(one_position_at_a_time, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_the_unembedding_is_never_copied_whole(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    vocab, width = 40_000, 4
    monkeypatch.setattr(unembedding, "WIDENED_BYTES", 5_000 * width * 4)
    weight = torch.randn(vocab, width).to(dtype)
    mode = LargestTensor(weight)
    with mode:
        found = fisher_metric(torch.randn(3, width), Unembedding(weight), block_bytes=4 * vocab)
    assert mode.numel == 2**14 * width < vocab * width, "a piece of the vocabulary in fp64"
    assert found.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_half_precision_head_in_pieces_gives_what_it_gives_whole(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = head_with(True, 0.3, 2.0)
    head = head._replace(weight=head.weight.to(dtype))
    y = torch.randn(POSITIONS, WIDTH, generator=torch.Generator().manual_seed(1))
    whole = fisher_metric(y, head)
    monkeypatch.setattr(unembedding, "WIDENED_BYTES", 3 * WIDTH * 4)
    torch.testing.assert_close(fisher_metric(y, head), whole, rtol=1e-5, atol=1e-7)
