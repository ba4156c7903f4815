"""Position ids of padded sequences."""

import inspect

from jaxtyping import Integer
from torch import Tensor, nn


def position_ids(attention_mask: Integer[Tensor, "batch seq"]) -> Integer[Tensor, "batch seq"]:
    """Positions counted over tokens only, so that padding on the left shifts nothing; padding gets position 0."""
    return (attention_mask.long().cumsum(dim=-1) - 1).clamp(min=0)


def takes_position_ids(body: nn.Module) -> bool:
    """Whether the body's forward names ``position_ids`` (ALiBi families, as BLOOM, count from the mask themselves)."""
    return "position_ids" in inspect.signature(body.forward).parameters
