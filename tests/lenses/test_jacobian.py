import pytest
import torch
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lenses.jacobian import JacobianLens
from logos_pl.lenses.norm import NormLens
from logos_pl.lm.frozen import FrozenLM
from tests.lenses.toy_head import D_MODEL, residuals, toy_head
from tests.lm.families import tiny_model

BLOCKS = 4


def maps(*rows: int, width: int = D_MODEL, dtype: torch.dtype = torch.float32) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {row: torch.randn(width, width, generator=generator).to(dtype) for row in rows}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_every_row_with_a_map_is_carried_before_norm_projection_scale_and_soft_cap(dtype: torch.dtype) -> None:
    h, head, of_rows = residuals(BLOCKS + 1), toy_head(), maps(1, 2, 3, dtype=dtype)
    norm, projection, lm_head = head.anatomy.final_norm, head.anatomy.project, head.anatomy.lm_head
    assert isinstance(norm, torch.nn.LayerNorm)
    assert projection is not None
    lens = JacobianLens(head, of_rows)
    assert lens.rows == (1, 2, 3, BLOCKS)
    wanted = []
    for row in lens.rows:  # in float64, one vector at a time, through the modules that the head was made of
        carried = torch.stack([of_rows[row].double() @ v.double() if row in of_rows else v.double() for v in h[row]])
        x = torch.nn.functional.layer_norm(
            carried, norm.normalized_shape, norm.weight.double(), norm.bias.double(), norm.eps
        )
        for linear in (projection, lm_head):
            x = x @ linear.weight.double().T + linear.bias.double()
        wanted.append((5.0 * torch.tanh(2.0 * x / 5.0)).log_softmax(-1))
    got = lens.log_probs(h[list(lens.rows)], lens.rows)
    torch.testing.assert_close(got.double(), torch.stack(wanted), rtol=0, atol=1e-5)


def test_a_map_is_not_applied_the_other_way_round() -> None:
    h, head, of_rows = residuals(1), toy_head(), maps(2)
    turned = {row: matrix.T.contiguous() for row, matrix in of_rows.items()}
    one, other = (JacobianLens(head, given).logits(h, [2]) for given in (of_rows, turned))
    assert float((one - other).abs().max()) > 0.1


def test_the_last_row_is_the_model_itself_and_the_identity_gives_the_norm_lens() -> None:
    h, head = residuals(BLOCKS + 1), toy_head()
    norm = NormLens(head).logits(h, range(BLOCKS + 1))
    random = JacobianLens(head, maps(*range(BLOCKS))).logits(h, range(BLOCKS + 1))
    assert [torch.equal(a, b) for a, b in zip(random, norm, strict=True)] == [False] * BLOCKS + [True]
    identity = JacobianLens(head, dict.fromkeys(range(BLOCKS), torch.eye(D_MODEL)))
    torch.testing.assert_close(identity.logits(h, range(BLOCKS + 1)), norm)


def test_a_row_without_a_map_is_refused_and_never_read_as_another_lens() -> None:
    lens = JacobianLens(toy_head(), maps(1, 3))
    assert lens.rows == (1, 3, BLOCKS)
    with pytest.raises(InputError, match=r"no map for row\(s\) 0, 2: it reads 1, 3, 4"):
        lens.logits(residuals(3), [2, 1, 0])
    with pytest.raises(InputError, match=r"Row\(s\) \[5\] cannot be decoded"):
        lens.logits(residuals(1), [5])


def test_the_final_norm_is_used_whichever_norm_the_given_head_decodes_with() -> None:
    lm = FrozenLM.from_model(tiny_model("llama"))
    h = torch.randn(lm.num_blocks + 1, 5, lm.d_model, generator=torch.Generator().manual_seed(1))
    of_rows, rows = maps(*range(lm.num_blocks), width=lm.d_model), range(lm.num_blocks + 1)
    final, following = (JacobianLens(Head(lm.anatomy, norm), of_rows).logits(h, rows) for norm in ("final", "next"))
    assert torch.equal(final, following)


def test_maps_of_another_model_are_refused() -> None:
    for given, said in (
        (maps(1, width=D_MODEL + 1), "a map for row 1"),
        (maps(BLOCKS), f"a map for row {BLOCKS}"),
        ({}, "no map"),
    ):
        with pytest.raises(InputError, match=f"The Jacobian lens has {said}, but the model needs maps of"):
            JacobianLens(toy_head(), given)
