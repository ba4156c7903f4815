"""How work is cut: everything once, within the bound, and no block of logits held beside the next."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from logos_pl.functional import blocks, unembedding
from logos_pl.functional.bias_loss import bias_cross_entropy
from logos_pl.functional.blocks import block_shape, logit_blocks, logit_slices, position_pieces, spans
from logos_pl.functional.divergence import row_divergence
from logos_pl.functional.lens_loss import lens_loss
from logos_pl.functional.next_token import next_token_nats
from logos_pl.functional.readings import row_readings
from logos_pl.functional.temperature import temperature_slope
from logos_pl.functional.unembedding import PreparedHead, Unembedding

ROWS, POS, VOCAB = 3, 10, 25
ROW_BYTES = VOCAB * 4


def test_blocks_take_whole_positions_first_and_split_rows_only_when_one_position_is_too_large() -> None:
    assert block_shape(num_pos=10, num_rows=4, row_bytes=100, block_bytes=900) == (2, 4)
    assert block_shape(num_pos=10, num_rows=4, row_bytes=100, block_bytes=300) == (1, 3)
    assert block_shape(num_pos=10, num_rows=4, row_bytes=100, block_bytes=1) == (1, 1)
    assert block_shape(num_pos=10, num_rows=4, row_bytes=100, block_bytes=10**9) == (10, 4)


def test_spans_cover_a_range_once_and_end_where_it_ends() -> None:
    assert [list(range(10))[span] for span in spans(10, 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(spans(0, 4)) == []


def visited(parts: list[tuple[slice, slice]], num_pos: int, num_rows: int) -> list[tuple[int, int]]:
    """Every (position, row) that some parts cover, in order."""
    return [(pos, row) for p, r in parts for pos in range(num_pos)[p] for row in range(num_rows)[r]]


@pytest.mark.parametrize("num_rows", [0, 1, ROWS])
@pytest.mark.parametrize("num_pos", [0, 1, POS])
@pytest.mark.parametrize("rows_that_fit", [0, 1, 2, 3, 5, 7, 100])
def test_blocks_cover_every_row_at_every_position_once_and_hold_no_more_than_fits(
    num_rows: int, num_pos: int, rows_that_fit: int
) -> None:
    x = torch.empty(num_rows, num_pos, 4)
    cut = [(pos, list(parts)) for pos, parts in logit_blocks(x, ROW_BYTES, rows_that_fit * ROW_BYTES + 1)]
    assert [pos for span, _ in cut for pos in range(num_pos)[span]] == list(range(num_pos)), "also without rows"
    flat = [(pos, rows) for pos, parts in cut for rows in parts]
    seen = visited(flat, num_pos, num_rows)
    assert sorted(seen) == [(pos, row) for pos in range(num_pos) for row in range(num_rows)]
    for part in flat:
        assert len(visited([part], num_pos, num_rows)) <= max(1, rows_that_fit)


def test_the_rows_of_a_position_are_split_only_where_they_do_not_fit_into_one_block() -> None:
    x = torch.empty(ROWS, POS, 4)
    pos, rows = next(logit_blocks(x, ROW_BYTES, 8 * ROW_BYTES))
    assert (pos, list(rows)) == (slice(0, 2), [slice(0, ROWS)])
    pos, rows = next(logit_blocks(x, ROW_BYTES, 2 * ROW_BYTES))
    assert (pos, list(rows)) == (slice(0, 1), [slice(0, 2), slice(2, 4)])


@pytest.mark.parametrize("rows_that_fit", [0, 1, 2, 4, 7, 1000])
@pytest.mark.parametrize("num_pos", [0, 3, POS])
def test_slices_cover_a_block_or_some_of_its_positions_once(
    rows_that_fit: int, num_pos: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_CPU_SLICE_BYTES", rows_that_fit * ROW_BYTES)
    z = torch.empty(POS, ROWS, VOCAB)
    some = list(logit_slices(z, num_pos))
    assert sorted(visited(some, num_pos, ROWS)) == [(pos, row) for pos in range(num_pos) for row in range(ROWS)]
    assert all(len(visited([part], num_pos, ROWS)) <= max(1, rows_that_fit) for part in some)
    assert list(logit_slices(z)) == list(logit_slices(z, POS))


def test_a_slice_of_logits_in_fp64_has_half_as_many_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_CPU_SLICE_BYTES", 4 * ROWS * ROW_BYTES)
    z = torch.empty(POS, ROWS, VOCAB)
    assert next(logit_slices(z)) == (slice(0, 4), slice(0, ROWS))
    assert next(logit_slices(z.double())) == (slice(0, 2), slice(0, ROWS))


def test_pieces_cover_the_positions_and_hold_at_least_one() -> None:
    shape = (5, 25, 8)
    ten_positions = 10 * 5 * 8 * 4
    assert [(p.start, p.stop) for p in position_pieces(shape, ten_positions)] == [(0, 10), (10, 20), (20, 30)]
    assert len(list(position_pieces(shape, 1))) == 25


X, FINAL_X, INV_TAU = torch.randn(ROWS, POS, 4), torch.randn(POS, 4), torch.ones(ROWS)
HEAD, IDS = Unembedding(torch.randn(VOCAB, 4)), torch.arange(POS)
USERS: dict[str, Callable[[int], object]] = {
    "lens_loss": lambda size: lens_loss(X.requires_grad_(), FINAL_X, INV_TAU, HEAD, block_bytes=size),
    "bias_loss": lambda size: bias_cross_entropy(
        X, INV_TAU[:, None].expand(-1, 4), INV_TAU, FINAL_X, HEAD, block_bytes=size
    ),
    "divergence": lambda size: row_divergence(X, FINAL_X, INV_TAU, HEAD, block_bytes=size),
    "readings": lambda size: row_readings(X, FINAL_X, INV_TAU, HEAD, IDS, IDS, top_k=3, block_bytes=size),
    "next_token": lambda size: next_token_nats(X, INV_TAU, IDS, HEAD, block_bytes=size),
    "temperature": lambda size: temperature_slope(X, FINAL_X, INV_TAU, HEAD, block_bytes=size),
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("rows_that_fit", [2, 7])
def test_a_block_is_let_go_of_before_the_next_one_is_computed(
    user: str, rows_that_fit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[StorageWeakRef] = []

    def recorded(x: Tensor, head: PreparedHead) -> Tensor:
        assert all(block.expired() for block in computed)
        z = unscaled_logits(x, head)
        computed.append(StorageWeakRef(z.untyped_storage()))
        return z

    unscaled_logits = unembedding.unscaled_logits
    monkeypatch.setattr(unembedding, "unscaled_logits", recorded)
    monkeypatch.setattr("logos_pl.functional.bias_loss.unscaled_logits", recorded)
    USERS[user](rows_that_fit * ROW_BYTES)
    assert len(computed) == {2: POS * 2, 7: POS // 2}[rows_that_fit]
