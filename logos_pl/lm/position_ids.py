"""Position ids of padded sequences."""

import inspect

from jaxtyping import Integer
from torch import Tensor, nn


def position_ids(attention_mask: Integer[Tensor, "batch seq"]) -> Integer[Tensor, "batch seq"]:
    """Position ids counted over tokens only, so that left padding does not shift them; padding gets 0."""
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)


def takes_position_ids(body: nn.Module) -> bool:
    """Whether the body's forward takes ``position_ids`` (ALiBi models such as BLOOM derive them from the mask)."""
    return "position_ids" in inspect.signature(body.forward).parameters
