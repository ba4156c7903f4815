from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from torch import Tensor

from logos_pl.errors import RunError
from logos_pl.fit.closed_form import ClosedFormStart, OpeningText, closed_form_start, settled_positions
from logos_pl.functional.closed_form import SHRINKAGES
from logos_pl.functional.divergence import row_divergence
from logos_pl.functional.moments import Moments, MomentStream
from logos_pl.functional.training_basis import training_basis
from logos_pl.functional.unembedding import unembed
from logos_pl.lenses.head import Head
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from tests.functional.test_moments import Summing
from tests.lm.families import tiny_model

RANK, SEQ_LEN = 3, 24


@pytest.fixture(scope="module")
def lm() -> FrozenLM:
    return FrozenLM.from_model(tiny_model("llama"))


def text_of(lm: FrozenLM, sequences: int, seed: int = 0) -> Tensor:
    return torch.randint(0, lm.vocab_size, (sequences, SEQ_LEN), generator=torch.Generator().manual_seed(seed))


def opening(ids: Tensor, numbers: Sequence[int], set_aside: Sequence[int]) -> Callable[[], list[OpeningText]]:
    """Micro-batches of two of the sequences with these numbers."""
    pairs = [numbers[i : i + 2] for i in range(0, len(numbers), 2)]
    return lambda: [OpeningText(ids[list(pair)], [number in set_aside for number in pair]) for pair in pairs]


def started(lm: FrozenLM, start: ClosedFormStart) -> TunedLens:
    translators = Translators(lm.num_blocks - 1, lm.d_model, RANK)
    translators.start_at(start.tuned)
    return TunedLens(translators, Head(lm.anatomy))


@torch.no_grad()
def kl_bits(lm: FrozenLM, lens: TunedLens, ids: Tensor) -> Tensor:
    rows = list(range(1, lm.num_blocks + 1))
    h = residuals(lm, ids, None, rows).flatten(1, 2)
    x, inv_tau = lens.decode_inputs(h, rows)
    return row_divergence(x, x[-1], inv_tau, lens.head.unembedding).kl_from_final_bits.mean(1)


def test_it_lowers_the_divergence_on_new_text_at_every_inner_row_and_counts_what_it_read(lm: FrozenLM) -> None:
    start = closed_form_start(
        lm, Head(lm.anatomy), opening(text_of(lm, 32), range(32), range(28, 32)), RANK, num_set_aside=4
    )
    assert (start.sequences, start.tokens) == (32, 32 * SEQ_LEN)
    assert start.positions == 28 * (SEQ_LEN - 8)
    assert set(start.shrinkage) <= set(SHRINKAGES)
    new = text_of(lm, 16, seed=1)
    before = kl_bits(lm, TunedLens(Translators(lm.num_blocks - 1, lm.d_model, 0), Head(lm.anatomy)), new)
    after = kl_bits(lm, started(lm, start), new)
    assert (after[:-1] < before[:-1]).all(), f"{after} against {before}"
    assert start.bias_only.U.shape[-1] == 0
    assert (start.bias_only.c.norm(dim=1) > 0).all()


def test_the_first_positions_are_left_out_but_in_very_short_sequences() -> None:
    assert settled_positions(20).tolist() == list(range(8, 20))
    assert settled_positions(16).tolist() == list(range(16))


def test_processes_that_share_the_text_start_where_one_alone_starts(lm: FrozenLM) -> None:
    ids, head = text_of(lm, 32), Head(lm.anatomy)
    aside = range(28, 32)
    alone = closed_form_start(lm, head, opening(ids, range(32), aside), RANK, num_set_aside=4)
    summing = Summing(2)
    models = [FrozenLM.from_model(tiny_model("llama")) for _ in range(2)]  # each has hooks of its own
    with ThreadPoolExecutor(2) as pool:
        running = [
            pool.submit(
                closed_form_start, own, Head(own.anatomy), opening(ids, range(rank, 32, 2), aside), RANK,
                num_set_aside=4, all_sum=partial(summing.of, rank),
            )
            for rank, own in enumerate(models)
        ]  # fmt: skip
        together = [process.result() for process in running]
    for start in together:
        assert start[3:] == alone[3:]
        for got, wanted in zip(start.tuned + start.basis, alone.tuned + alone.basis, strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_rows_read_in_several_passes_start_where_they_start_when_read_at_once(lm: FrozenLM) -> None:
    ids, head = text_of(lm, 16), Head(lm.anatomy)
    at_once, one_by_one = (
        closed_form_start(
            lm, head, opening(ids, range(16), range(12, 16)), RANK, num_set_aside=4, rows_per_pass=rows_per_pass
        )
        for rows_per_pass in (None, 1)
    )
    assert one_by_one[3:] == at_once[3:]
    parts = [[*start.tuned, *start.bias_only, *start.basis] for start in (one_by_one, at_once)]
    for got, wanted in zip(*parts, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_the_basis_is_whitened_by_all_rows_together_and_by_the_metric_of_the_head(lm: FrozenLM) -> None:
    ids, head = text_of(lm, 32), Head(lm.anatomy)
    found = closed_form_start(lm, head, opening(ids, range(32), range(28, 32)), RANK, num_set_aside=4).basis
    h = residuals(lm, ids, torch.arange(8, SEQ_LEN).expand(32, -1), [1, 2, 3])
    x = head.normalise(h.flatten(1, 2), [1, 2, 3]).unflatten(1, (32, -1)).double()
    covariance = torch.stack([torch.cov(row[:28].flatten(0, 1).T) for row in x[:2]]).mean(0)
    y = head.project(x[2, 28:].flatten(0, 1).float()).requires_grad_()
    log_p = torch.log_softmax(unembed(y, head.unembedding), dim=-1)
    fisher = torch.zeros_like(covariance)
    for token in range(lm.vocab_size):  # E[∇ log p (∇ log p)ᵀ], one token after the other
        (score,) = torch.autograd.grad(log_p[:, token].sum(), y, retain_graph=True)
        fisher += ((log_p[:, token].exp()[:, None] * score).T @ score).double()
    for got, wanted in zip(found, training_basis(covariance, fisher), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)


def test_a_projection_in_front_of_the_head_is_part_of_the_metric() -> None:
    model = tiny_model("opt_project")
    lm = FrozenLM.from_model(model)
    head = Head(lm.anatomy)
    assert head.projection is not None
    start = closed_form_start(lm, head, opening(text_of(lm, 16), range(16), range(12, 16)), RANK, num_set_aside=4)
    new = text_of(lm, 8, seed=1)
    identity = TunedLens(Translators(lm.num_blocks - 1, lm.d_model, 0), head)
    assert (kl_bits(lm, started(lm, start), new)[:-1] < kl_bits(lm, identity, new)[:-1]).all()


@pytest.mark.parametrize(("block", "rows"), [(1, r"\[2, 3\]"), (-1, r"\[3\]")])
def test_numbers_that_are_not_finite_are_refused_with_their_rows(block: int, rows: str) -> None:
    lm = FrozenLM.from_model(tiny_model("llama"))
    with torch.no_grad():
        lm.anatomy.blocks[block].get_parameter("mlp.down_proj.weight").fill_(torch.nan)
    with pytest.raises(RunError, match=rf"non-finite values at rows {rows}: run"):
        closed_form_start(lm, Head(lm.anatomy), opening(text_of(lm, 8), range(8), range(4, 8)), RANK, num_set_aside=4)


def test_numbers_that_are_not_finite_in_the_moments_alone_are_refused_too(
    lm: FrozenLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the last row, what is set aside may be finite where the rest is not."""
    inner = MomentStream.moments

    def moments(stream: MomentStream) -> Moments:
        found = inner(stream)
        found.yy[0, 0] = torch.inf
        return found

    monkeypatch.setattr(MomentStream, "moments", moments)
    with pytest.raises(RunError, match=r"non-finite values at rows \[3\]"):
        closed_form_start(lm, Head(lm.anatomy), opening(text_of(lm, 8), range(8), range(4, 8)), RANK, num_set_aside=4)


def test_text_that_is_one_token_over_and_over_is_refused_with_its_rows() -> None:
    lm = FrozenLM.from_model(tiny_model("llama"))
    with torch.no_grad():  # and a model that sees nothing but the token before
        for block in lm.anatomy.blocks:
            block.get_parameter("self_attn.o_proj.weight").zero_()
    ids = torch.full((8, SEQ_LEN), 3)
    with pytest.raises(RunError, match=r"does not vary enough for a closed-form start, at rows \[1, 2\]"):
        closed_form_start(lm, Head(lm.anatomy), opening(ids, range(8), range(4, 8)), RANK, num_set_aside=4)
