"""Groups of token lists for one forward pass each, and their padding."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


def grouped(lengths: Sequence[int], tokens_per_batch: int, most: int) -> list[slice]:
    """Consecutive groups of texts.

    Args:
        lengths: Tokens of each text.
        tokens_per_batch: Maximum number of tokens per group, padding included; a longer text gets its own group.
        most: Maximum number of texts per group.
    """
    starts: list[int] = []
    width = 0
    for number, length in enumerate(lengths):
        width = max(width, length)
        full = not starts or number - starts[-1] == most
        if full or (number - starts[-1] + 1) * width > tokens_per_batch:
            starts.append(number)
            width = length
    ends = [*starts[1:], len(lengths)]
    return [slice(start, end) for start, end in zip(starts, ends, strict=False)]


def padded(texts: Sequence[Sequence[int]]) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Token ids padded on the right with 0, which exists in every vocabulary, and the mask: 1 for tokens."""
    width = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts], dtype=torch.long)
    mask = (torch.arange(width) < torch.tensor([len(text) for text in texts])[:, None]).long()
    return ids, mask
