"""Milestones of a lens at many positions against a search by hand, and the model's own top-1 token."""

import torch

from logos_pl.compare.revision_module import BELOW_BITS, RANKS, reached_rows
from logos_pl.lenses.decoding import final_top1, lens_readings
from logos_pl.lenses.norm import NormLens
from tests.lenses.test_tuned import random_lens
from tests.lenses.toy_head import VOCAB, residuals, toy_head

ROWS, POS = 5, 40


def test_milestones_are_the_first_rows_that_meet_the_condition() -> None:
    lens, h = random_lens(), residuals(ROWS, POS)
    ids = torch.randint(0, VOCAB, (POS,), generator=torch.Generator().manual_seed(1))
    found = lens_readings(lens, h, ids, torch.full_like(ids, -1), top_k=1)
    reached = reached_rows(found, lens.rows)
    log_p = lens.log_probs(h, range(ROWS))
    ranks = 1 + (log_p > log_p.gather(-1, ids[None, :, None].expand(ROWS, -1, -1))).sum(-1)
    for name, k in RANKS.items():
        for pos in range(POS):
            there = [row for row in range(ROWS) if int(ranks[row, pos]) <= k]
            assert int(reached[name][pos]) == (there[0] if there else -1)
    for name, bits in BELOW_BITS.items():
        for pos in range(POS):
            there = [row for row in range(ROWS) if float(found.kl_to_final_bits[row, pos]) < bits]
            assert int(reached[name][pos]) == there[0], "the last row is the model's own"


def test_the_models_own_top_1_token_is_that_of_its_logits_in_blocks_too() -> None:
    head, h = toy_head(), residuals(ROWS, POS)
    wanted = NormLens(head).logits(h[-1:], [ROWS - 1])[0].argmax(-1)
    for block_bytes in (2**28, 3 * VOCAB * 4):
        assert torch.equal(final_top1(head, h, block_bytes=block_bytes), wanted)
