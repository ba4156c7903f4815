import pytest
import torch

from logos_pl.errors import InputError
from logos_pl.lenses.affine import AffineLens
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import NormLens
from logos_pl.lm.frozen import FrozenLM
from tests.lenses.toy_head import D_MODEL, residuals, toy_head
from tests.lm.families import tiny_model

BLOCKS = 4


def random_maps(rows: int = BLOCKS, width: int = D_MODEL) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(rows, width, width, generator=generator) / width, torch.randn(rows, width, generator=generator)


def test_every_row_but_the_last_is_translated_before_norm_projection_scale_and_soft_cap() -> None:
    h, head, (weight, bias) = residuals(BLOCKS + 1), toy_head(), random_maps()
    norm, projection, lm_head = head.anatomy.final_norm, head.anatomy.project, head.anatomy.lm_head
    assert isinstance(norm, torch.nn.LayerNorm)
    assert projection is not None
    wanted = []
    for row, state in enumerate(h.double()):  # in float64, through the modules that the head was made of
        moved = state if row == BLOCKS else state + state @ weight[row].double().T + bias[row].double()
        moved = torch.nn.functional.layer_norm(
            moved, norm.normalized_shape, norm.weight.double(), norm.bias.double(), norm.eps
        )
        for linear in (projection, lm_head):
            moved = moved @ linear.weight.double().T + linear.bias.double()
        wanted.append((5.0 * torch.tanh(2.0 * moved / 5.0)).log_softmax(-1))
    got = AffineLens(head, weight, bias).log_probs(h, range(BLOCKS + 1))
    torch.testing.assert_close(got.double(), torch.stack(wanted), rtol=0, atol=1e-5)


def test_the_last_row_is_the_norm_lens_to_the_last_bit_and_row_0_is_not() -> None:
    h, head = residuals(BLOCKS + 1), toy_head()
    affine = AffineLens(head, *random_maps()).logits(h, range(BLOCKS + 1))
    norm = NormLens(head).logits(h, range(BLOCKS + 1))
    assert [torch.equal(a, b) for a, b in zip(affine, norm, strict=True)] == [False] * BLOCKS + [True]


def test_any_mix_of_rows_gives_what_each_row_gives_alone() -> None:
    h, lens, rows = residuals(6), AffineLens(toy_head(), *random_maps()), [3, 0, 1, 4, 3, 2]
    together = lens.log_probs(h, rows)
    for slot, row in enumerate(rows):
        torch.testing.assert_close(together[slot], lens.log_probs(h[slot : slot + 1], [row])[0])


def test_the_final_norm_is_used_whichever_norm_the_given_head_decodes_with() -> None:
    lm = FrozenLM.from_model(tiny_model("llama"))
    h = torch.randn(lm.num_blocks + 1, 5, lm.d_model, generator=torch.Generator().manual_seed(1))
    maps, rows = random_maps(lm.num_blocks, lm.d_model), range(lm.num_blocks + 1)
    final, following = (AffineLens(Head(lm.anatomy, norm), *maps).logits(h, rows) for norm in ("final", "next"))
    assert torch.equal(final, following)


def test_maps_of_another_model_are_refused_by_rows_and_width() -> None:
    with pytest.raises(InputError, match=r"3 rows of width 8, .* 4 rows before its last of width 8"):
        AffineLens(toy_head(), *random_maps(rows=3))
    with pytest.raises(InputError, match=r"width 10, .* width 8"):
        AffineLens(toy_head(), *random_maps(width=10))


@pytest.mark.parametrize("rows", [[-1], [5]])
def test_rows_the_model_does_not_have_are_refused(rows: list[int]) -> None:
    with pytest.raises(InputError, match="0 to 4"):
        AffineLens(toy_head(), *random_maps()).logits(residuals(1), rows)
