"""The norm that reads each row next, for ``decoding_norm: next``: found by the inputs of modules, not by names."""

from torch import Tensor, nn

from logos_pl.lm.norms import is_norm
from logos_pl.lm.probing import last_call
from logos_pl.lm.trace import Call, arrives, same_bits


def next_norms(blocks: list[nn.Module], calls: list[Call]) -> list[nn.Module] | None:
    """The norm that reads each row 0 … n−1 next, or None if the family has none.

    Pre-norm blocks: the first norm of block L+1 that reads row L. Post-norm blocks (a norm makes the block's output):
    that norm of the current block. Row 0, which no norm produces, gets the first norm of block 1, which reads row 0
    plus the attention's output.
    """
    inputs = [_reading_norm(block, calls) for block in blocks]
    if all(norm is not None for norm in inputs):
        return [norm for norm in inputs if norm is not None]
    outputs = [_writing_norm(block, calls) for block in blocks]
    if all(norm is not None for norm in outputs):
        first = next(call.module for call in calls if _is_norm_of(call.module, blocks[0]))
        return [first, *(norm for norm in outputs[:-1] if norm is not None)]
    return None


def _is_norm_of(module: nn.Module, block: nn.Module) -> bool:
    return is_norm(module) and any(part is module for part in block.modules())


def _reading_norm(block: nn.Module, calls: list[Call]) -> nn.Module | None:
    row = last_call(calls, block).read
    return next((c.module for c in calls if _is_norm_of(c.module, block) and arrives(row, c.read)), None)


def _writing_norm(block: nn.Module, calls: list[Call]) -> nn.Module | None:
    row = last_call(calls, block).wrote
    norms = (c.module for c in calls if _is_norm_of(c.module, block) and _same_values(c.wrote, row))
    return next(norms, None)


def _same_values(a: Tensor, b: Tensor) -> bool:
    return a.numel() == b.numel() and same_bits(a.flatten(), b.flatten())
