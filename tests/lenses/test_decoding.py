"""Decoding in pieces of the positions: the same numbers, and no more residuals in fp32 than a piece holds."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from logos_pl.functional import divergence
from logos_pl.functional.divergence import row_divergence
from logos_pl.functional.readings import row_readings
from logos_pl.functional.unembedding import Unembedding, unembed
from logos_pl.lenses.decoding import lens_divergence, lens_readings, lens_transfer
from logos_pl.lenses.jacobian import JacobianLens
from logos_pl.lenses.norm import Lens, NormLens
from tests.largest_tensor import LargestTensor
from tests.lenses.test_tuned import random_lens
from tests.lenses.toy_head import D_MODEL, VOCAB, residuals, toy_head

ROWS, POS = 5, 301
PIECE = 10 * ROWS * D_MODEL * 4
"""Bytes of ten positions."""
NONE = torch.full((POS,), -1)
TARGETS = torch.randint(0, VOCAB, (POS,), generator=torch.Generator().manual_seed(2))


def lenses() -> list[Lens]:
    return [NormLens(toy_head()), random_lens()]


def whole(lens: Lens, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, inv_tau = lens.decode_inputs(h, range(ROWS))
    return x, lens.head.project(lens.head.normalise(h[-1:], [ROWS - 1]))[0], inv_tau


@pytest.mark.parametrize("number", [0, 1])
def test_divergences_in_pieces_are_those_of_the_whole_and_in_one_piece_bit_for_bit(number: int) -> None:
    lens, h = lenses()[number], residuals(ROWS, POS)
    x, final_x, inv_tau = whole(lens, h)
    wanted = row_divergence(x, final_x, inv_tau, lens.head.unembedding)
    for in_one, in_pieces, other in zip(
        lens_divergence(lens, h), lens_divergence(lens, h, block_bytes=PIECE), wanted, strict=True
    ):
        assert torch.equal(in_one, other)
        torch.testing.assert_close(in_pieces, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", [0, 1])
def test_readings_in_pieces_are_those_of_the_whole_and_in_one_piece_bit_for_bit(number: int) -> None:
    lens, h = lenses()[number], residuals(ROWS, POS)
    x, final_x, inv_tau = whole(lens, h)
    wanted = row_readings(x, final_x, inv_tau, lens.head.unembedding, TARGETS, NONE, top_k=3)
    in_one = lens_readings(lens, h, TARGETS, NONE, top_k=3)
    in_pieces = lens_readings(lens, h, TARGETS, NONE, top_k=3, piece_bytes=PIECE)
    for one, pieces, other in zip(in_one, in_pieces, wanted, strict=True):
        assert torch.equal(one.nan_to_num(), other.nan_to_num())
        torch.testing.assert_close(pieces, other, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("number", [0, 1])
def test_nothing_is_larger_than_a_piece(number: int) -> None:
    lens, h = lenses()[number], residuals(ROWS, POS)
    weight = lens.head.unembedding.weight
    for read in (
        lambda: lens_divergence(lens, h, block_bytes=PIECE),
        lambda: lens_readings(lens, h, TARGETS, NONE, top_k=1, block_bytes=PIECE, piece_bytes=PIECE),
    ):
        mode = LargestTensor(h, weight, TARGETS, NONE)
        with mode:
            read()
        # What comes back is one number per row and position.
        assert mode.numel <= max(10 * ROWS * D_MODEL, ROWS * POS) < ROWS * POS * D_MODEL


def test_a_lens_with_maps_for_some_rows_is_read_at_these_alone() -> None:
    head, h = toy_head(), residuals(ROWS, POS)
    maps = {row: torch.randn(D_MODEL, D_MODEL, generator=torch.Generator().manual_seed(row)) for row in range(ROWS - 1)}
    whole, part = JacobianLens(head, maps), JacobianLens(head, {1: maps[1], 3: maps[3]})
    at = [1, 3, ROWS - 1]
    for all_rows, some in (
        (lens_divergence(whole, h), lens_divergence(part, h)),
        (lens_readings(whole, h, TARGETS, NONE, top_k=2), lens_readings(part, h, TARGETS, NONE, top_k=2)),
        (lens_divergence(whole, h), lens_divergence(part, h, block_bytes=PIECE)),
    ):
        for wanted, found in zip(all_rows, some, strict=True):
            torch.testing.assert_close(found, wanted[at], rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("block_bytes", [2**28, PIECE, 8 * VOCAB])
def test_the_maps_of_a_lens_at_every_row_are_those_of_a_brute_force_in_float64(block_bytes: int) -> None:
    lens, h, maps = random_lens(), residuals(ROWS, 23), [1, 2, 3]
    found = lens_transfer(lens, h, maps, block_bytes=block_bytes)
    head = lens.head.unembedding

    def log_probs(x: Tensor, inv_tau: float) -> Tensor:
        return torch.log_softmax(unembed(x.double(), in_float64(head)) * inv_tau, dim=-1)

    final = log_probs(lens.head.final_x(h), 1.0)
    for number, (of_map, row) in enumerate((of_map, row) for of_map in maps for row in range(ROWS)):
        x, inv_tau = lens.decode_inputs(h[row : row + 1], [of_map])
        q = log_probs(x[0], float(inv_tau))
        bits = math.log(2)
        torch.testing.assert_close(
            found.kl_from_final_bits[number].double(), (final.exp() * (final - q)).sum(-1) / bits, rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(
            found.kl_to_final_bits[number].double(), (q.exp() * (q - final)).sum(-1) / bits, rtol=1e-4, atol=1e-5
        )
        assert torch.equal(found.top1_agree[number], q.argmax(-1) == final.argmax(-1))


def test_a_matrix_holds_neither_all_logits_nor_all_rows_at_once() -> None:
    lens, h, maps = random_lens(), residuals(ROWS, POS), [1, 2, 3]
    mode = LargestTensor(h, lens.head.unembedding.weight)
    with mode:
        lens_transfer(lens, h, maps, block_bytes=PIECE)
    assert mode.numel <= max(10 * ROWS * D_MODEL, len(maps) * ROWS * POS) < ROWS * POS * D_MODEL


def test_the_diagonal_of_a_matrix_is_the_lens_and_the_final_distribution_is_computed_once_a_position(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lens, h, maps = random_lens(), residuals(ROWS, POS), [1, 2, 3]
    positions: list[int] = []
    compute = divergence.final_logits

    def counted(final_x: Tensor, head: Any) -> Tensor:
        positions.append(len(final_x))
        return compute(final_x, head)

    monkeypatch.setattr(divergence, "final_logits", counted)
    matrix = lens_transfer(lens, h, maps).kl_from_final_bits.reshape(len(maps), ROWS, POS)
    assert sum(positions) == POS
    own = lens_divergence(lens, h).kl_from_final_bits
    for number, row in enumerate(maps):
        torch.testing.assert_close(matrix[number, row], own[row], rtol=1e-5, atol=1e-5)


def in_float64(head: Unembedding) -> Unembedding:
    bias = None if head.bias is None else head.bias.double()
    return head._replace(weight=head.weight.double(), bias=bias)
