"""Counts floating-point operations at run time instead of deriving them from settings."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_flop(work: Callable[[], object]) -> int:
    """Operations in the matrix products and the attention of one run; attention is counted as if not causal."""
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flop}  # torch 2.13 omits it
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        work()
    return counter.get_total_flops()


def _attention_flop(q: torch.Size, k: torch.Size, v: torch.Size, *_: Any, **__: Any) -> int:
    batch, heads, queries, width = q
    return 2 * batch * heads * queries * k[-2] * (width + v[-1])
