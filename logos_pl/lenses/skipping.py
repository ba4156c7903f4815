"""How well the model predicts real text when its last blocks are replaced by a lens. Source: docs/method.md §6."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from logos_pl.functional.blocks import position_pieces
from logos_pl.functional.next_token import next_token_nats
from logos_pl.lenses.norm import Lens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.skipping import residuals_without_later_blocks

SKIPPED_BLOCKS = (2, 4, 8)
"""Numbers m of skipped blocks."""


class SkipRows(NamedTuple):
    """The rows that a lens reads when the last m blocks are skipped.

    Attributes:
        rows: Row n − m, by m.
        not_applicable: Why an m cannot be skipped, by m.
    """

    rows: dict[int, int]
    not_applicable: dict[int, str]


class NextTokenSums(NamedTuple):
    """Cross-entropy with the true next tokens; batches and processes are merged by adding both fields.

    Attributes:
        nats: Sum of −log q(next token) per row, in fp64 on the CPU.
        num_tokens: Number of predicted tokens.
    """

    nats: Float[Tensor, "rows"]
    num_tokens: int

    def merged(self, other: "NextTokenSums") -> "NextTokenSums":
        """The sums over both."""
        return NextTokenSums(self.nats + other.nats, self.num_tokens + other.num_tokens)

    def perplexities(self) -> list[float]:
        """exp(mean nats per token) per row; infinite if it exceeds fp64.

        Raises:
            ValueError: If no token was predicted.
        """
        if self.num_tokens == 0:
            raise ValueError("no token was predicted: there is no perplexity.")
        return (self.nats / self.num_tokens).exp().tolist()

    def bits_per_byte(self, num_bytes: int) -> list[float]:
        """Bits per byte of the predicted tokens' text, per row: comparable between tokenizers.

        Args:
            num_bytes: UTF-8 length of the text of the predicted tokens.
        """
        return (self.nats / (math.log(2.0) * num_bytes)).tolist()


def skip_rows(num_blocks: int, skipped: Sequence[int] = SKIPPED_BLOCKS) -> SkipRows:
    """The row a lens reads for each number of skipped blocks; those that leave no block to run are not applicable."""
    return SkipRows(
        {m: num_blocks - m for m in skipped if m < num_blocks},
        {
            m: f"the model has {num_blocks} blocks: skipping {m} would leave none to run"
            for m in skipped
            if m >= num_blocks
        },
    )


@torch.no_grad()
def skipping_sums(
    lm: FrozenLM,
    lens: Lens,
    input_ids: Int[Tensor, "batch seq"],
    rows: Sequence[int],
    attention_mask: Integer[Tensor, "batch seq"] | None = None,
    *,
    block_bytes: int = 2**28,
) -> NextTokenSums:
    """Cross-entropy with every token but the first when the lens reads ``rows`` and all later blocks are skipped.

    One forward serves all rows and runs the blocks up to the last of them; row n is the model itself.

    Args:
        lm: The frozen model.
        lens: What replaces the skipped blocks, the tuned or any other lens.
        input_ids: Token ids.
        rows: Rows 1 … n, as from ``skip_rows``.
        attention_mask: 0 for padding, which neither predicts nor is predicted.
        block_bytes: Upper bound on one block of logits, and on one of normed residuals.

    Raises:
        ValueError: No row, or one outside 1 … n.
    """
    h = residuals_without_later_blocks(lm, input_ids, rows, attention_mask)
    ids = input_ids.to(h.device)
    real = torch.ones_like(ids) if attention_mask is None else attention_mask.to(h.device)
    predicts = (real[:, :-1] * real[:, 1:]).bool()
    return next_token_sums(lens, h[:, :, :-1][:, predicts], rows, ids[:, 1:][predicts], block_bytes=block_bytes)


@torch.no_grad()
def next_token_sums(
    lens: Lens,
    h: Float[Tensor, "rows pos d_model"],
    rows: Sequence[int],
    targets: Int[Tensor, "pos"],
    *,
    block_bytes: int = 2**28,
) -> NextTokenSums:
    """Cross-entropy of the lens at ``rows`` with the true next tokens.

    Args:
        lens: Any lens.
        h: Residuals before any final norm.
        rows: Which row each slice of ``h`` is.
        targets: The token that follows each position.
        block_bytes: Upper bound on one block of logits, and on one of normed residuals.

    Raises:
        InputError: If the model does not have a row.
    """
    sums = torch.zeros(len(rows), dtype=torch.float64)
    for pos in position_pieces(h.shape, block_bytes):
        x, inv_tau = lens.decode_inputs(h[:, pos], rows)
        nats = next_token_nats(x, inv_tau, targets[pos], lens.head.unembedding, block_bytes=block_bytes)
        sums += nats.cpu().double().sum(1)
    return NextTokenSums(sums, targets.numel())
