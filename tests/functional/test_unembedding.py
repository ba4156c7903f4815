import itertools

import pytest
import torch
from torch import Tensor

from logos_pl.functional import unembedding
from logos_pl.functional.blocks import spans
from logos_pl.functional.unembedding import Unembedding, over_vocabulary, prepare, unembed

HEADS = list(itertools.product([False, True], [1.0, 0.25], [None, 3.0]))


def make(bias: bool, scale: float, softcap: float | None) -> tuple[Tensor, Unembedding]:
    generator = torch.Generator().manual_seed(7)
    x, weight, offset = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in [(5, 7, 6), (33, 6), (33,)]
    )
    return x, Unembedding(weight, offset if bias else None, scale, softcap)


def by_hand(x: Tensor, head: Unembedding) -> Tensor:
    z = x @ head.weight.T
    z = head.scale * (z if head.bias is None else z + head.bias)
    return z if head.softcap is None else head.softcap * torch.tanh(z / head.softcap)


@pytest.mark.parametrize(("bias", "scale", "softcap"), HEADS)
def test_unembed_gives_the_head_s_logits_over_any_leading_axes(bias: bool, scale: float, softcap: float | None) -> None:
    x, head = make(bias, scale, softcap)
    torch.testing.assert_close(unembed(x, head), by_hand(x, head), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(unembed(x[0, 0], head), by_hand(x, head)[0, 0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_are_fp32_and_a_half_head_rounds_its_operands_only(dtype: torch.dtype) -> None:
    x, head = make(True, 1.0, None)
    rounded = head._replace(weight=head.weight.to(dtype))
    found = unembed(x.float(), rounded)
    assert found.dtype == torch.float32
    exact = by_hand(x.to(dtype).double(), head._replace(weight=rounded.weight.double()))
    torch.testing.assert_close(found.double(), exact, rtol=1e-6, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_half_head_in_pieces_of_the_vocabulary_gives_what_it_gives_whole(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, head = make(True, 0.5, 3.0)
    head = head._replace(weight=head.weight.to(dtype))
    whole = unembed(x.float(), head)
    g = torch.randn(5, 33, generator=torch.Generator().manual_seed(1))
    back = over_vocabulary(g, prepare(head, torch.float32))
    monkeypatch.setattr(unembedding, "WIDENED_BYTES", 7 * 6 * 4)
    assert [part for part, _ in unembedding.widened(head.weight, torch.float32)] == list(spans(33, 7))
    torch.testing.assert_close(unembed(x.float(), head), whole, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(over_vocabulary(g, prepare(head, torch.float32)), back, rtol=1e-5, atol=1e-6)


def test_a_head_in_full_precision_is_taken_as_it_is() -> None:
    weight = torch.randn(33, 6)
    ((_, piece),) = unembedding.widened(weight, torch.float32)
    assert piece is weight


def test_unembed_without_constants_is_the_plain_product_to_the_last_bit() -> None:
    x, head = make(False, 1.0, None)
    x, head = x.float(), head._replace(weight=head.weight.float())
    assert torch.equal(unembed(x, head), (x.reshape(-1, 6) @ head.weight.T).view(5, 7, 33))


def test_unembed_passes_gradients_on() -> None:
    x, head = make(True, 0.5, 3.0)
    assert torch.autograd.gradcheck(lambda x: unembed(x, head), x[0, :2].clone().requires_grad_())
