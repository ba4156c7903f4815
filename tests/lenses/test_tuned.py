import pytest
import torch

from logos_pl.errors import InputError
from logos_pl.functional.divergence import row_divergence
from logos_pl.functional.unembedding import unembed
from logos_pl.lenses.norm import NormLens
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens
from tests.lenses.toy_head import D_MODEL, residuals, toy_head


def random_lens(num_blocks: int = 4) -> TunedLens:
    translators = Translators(num_blocks - 1, D_MODEL, 3)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in translators.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return TunedLens(translators.requires_grad_(False), toy_head(num_blocks))


def test_outer_rows_equal_the_norm_lens_to_the_last_bit_and_inner_rows_do_not() -> None:
    h, lens = residuals(5), random_lens()
    tuned, norm = lens.logits(h, range(5)), NormLens(lens.head).logits(h, range(5))
    assert [torch.equal(a, b) for a, b in zip(tuned, norm, strict=True)] == [True, False, False, False, True]
    assert lens.decode_inputs(h, range(5))[1][[0, -1]].tolist() == [1.0, 1.0]


def test_an_untrained_lens_is_the_norm_lens_to_the_last_bit() -> None:
    h, head = residuals(5), toy_head()
    tuned = TunedLens(Translators(3, D_MODEL, 3), head).log_probs(h, range(5))
    assert torch.equal(tuned, NormLens(head).log_probs(h, range(5)))


def test_inner_rows_are_translated_after_the_norm_and_divided_by_their_temperature() -> None:
    h, lens = residuals(1), random_lens()
    translators, head = lens.translators, lens.head
    x = head.normalise(h, [2])
    x = x + (x @ translators.U[1]) @ translators.V[1].T + translators.c[1]
    tau = torch.nn.functional.softplus(translators.log_tau[1]) + 1e-3
    torch.testing.assert_close(lens.logits(h, [2]), head.logits(x) / tau)


def test_any_mix_of_rows_gives_what_each_row_gives_alone() -> None:
    h, lens, rows = residuals(6), random_lens(), [3, 0, 1, 4, 3, 2]
    together = lens.log_probs(h, rows)
    for slot, row in enumerate(rows):
        torch.testing.assert_close(together[slot], lens.log_probs(h[slot : slot + 1], [row])[0])


def test_decode_inputs_with_the_unembedding_are_the_logits() -> None:
    h, lens = residuals(3), random_lens()
    x, inv_tau = lens.decode_inputs(h, [0, 2, 4])
    assert torch.equal(unembed(x, lens.head.unembedding) * inv_tau[:, None, None], lens.logits(h, [0, 2, 4]))


def test_the_last_row_has_no_divergence_from_the_model() -> None:
    h, lens = residuals(5), random_lens()
    x, inv_tau = lens.decode_inputs(h, range(5))
    found = row_divergence(x, x[-1], inv_tau, lens.head.unembedding)
    assert float(found.kl_to_final_bits[-1].abs().max()) < 1e-6
    assert bool(found.top1_agree[-1].all())
    assert float(found.kl_to_final_bits[1:-1].min()) > 1e-3


def test_two_blocks_have_one_translator_and_one_block_has_none() -> None:
    one_inner, no_inner = random_lens(num_blocks=2), random_lens(num_blocks=1)
    norm = NormLens(one_inner.head).logits(residuals(3), range(3))
    assert [torch.equal(a, b) for a, b in zip(one_inner.logits(residuals(3), range(3)), norm, strict=True)] == [
        True,
        False,
        True,
    ]
    assert torch.equal(no_inner.logits(residuals(2), range(2)), NormLens(no_inner.head).logits(residuals(2), range(2)))


def test_gradients_reach_the_translators_of_the_decoded_rows() -> None:
    lens = random_lens()
    lens.translators.requires_grad_()
    lens.log_probs(residuals(3), [0, 2, 4])[..., 0].sum().backward()
    for parameter in lens.translators.parameters():
        assert parameter.grad is not None
        assert [bool(row.any()) for row in parameter.grad] == [False, True, False]


def test_a_lens_without_a_head_says_what_to_do_and_works_once_bound() -> None:
    bound = random_lens()
    lens = TunedLens(bound.translators)
    with pytest.raises(InputError, match=r"bind\(head\)"):
        lens.logits(residuals(5), range(5))
    assert lens.bind(toy_head()) is lens
    assert torch.equal(lens.logits(residuals(5), range(5)), bound.logits(residuals(5), range(5)))


def test_the_head_of_another_model_is_refused_by_rows_and_width() -> None:
    translators = random_lens().translators
    with pytest.raises(InputError, match=r"3 rows .* 5 inner rows"):
        TunedLens(translators, toy_head(num_blocks=6))
    with pytest.raises(InputError, match=r"width 8, .* width 10"):
        TunedLens(translators).bind(toy_head(d_model=10))


@pytest.mark.parametrize("rows", [[-1], [5]])
def test_rows_the_model_does_not_have_are_refused(rows: list[int]) -> None:
    with pytest.raises(InputError, match="0 to 4"):
        random_lens().logits(residuals(1), rows)
