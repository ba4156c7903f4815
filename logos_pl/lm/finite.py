"""Finds the cause of non-finite numbers: non-finite weights, or an overflow of the number format."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from logos_pl.errors import InputError
from logos_pl.lm.probing import last_call
from logos_pl.lm.trace import Call


def refuse_nonfinite(model: PreTrainedModel, blocks: list[nn.Module], calls: list[Call], logits: Tensor) -> None:
    """Check that a forward pass gave finite numbers at every row and in the logits.

    Args:
        model: The model; its weights are checked only if something is not finite.
        blocks: Its blocks in order, all of which were called.
        calls: The module calls, in order.
        logits: What the forward returned.

    Raises:
        InputError: Some are not finite; the message names the first place, and the cause: weights or number format.
    """
    place = _first_place(blocks, calls, logits)
    if place is None:
        return
    name, dtype = type(model).__name__, next(model.parameters()).dtype
    if any(parameter.is_meta for parameter in model.parameters()):  # a streamed model's weights are on disk
        raise InputError(
            f"{place} of {name} is not finite in {str(dtype).removeprefix('torch.')}, because of its weights or "
            "of the number format; give another --model.dtype, or fetch the model again."
        )
    weight, overflows = _first_nonfinite_weight(model)
    if weight is not None and not (overflows and dtype == torch.float16):
        raise InputError(
            f"the weights of {name} hold numbers that are not finite ({weight} first), and so {place} is not finite; "
            "fetch the model again."
        )
    others = "bfloat16 or float32" if dtype == torch.float16 else "float32"
    remedy = "use another model" if dtype == torch.float32 else f"give --model.dtype {others}"
    cause = "though all weights are: its numbers are" if weight is None else f"as weights ({weight} first) are"
    raise InputError(
        f"{place} of {name} is not finite in {str(dtype).removeprefix('torch.')}, {cause} too large for this number "
        f"format; {remedy}."
    )


def _first_place(blocks: list[nn.Module], calls: list[Call], logits: Tensor) -> str | None:
    """The first row with a number that is not finite, or the logits, in words."""
    if not bool(last_call(calls, blocks[0]).read.isfinite().all()):
        return "row 0 (the embedding)"
    for row, block in enumerate(blocks, start=1):
        if not bool(last_call(calls, block).wrote.isfinite().all()):
            return f"row {row} (the output of block {row})"
    return None if bool(logits.isfinite().all()) else "the output of the output layer"


def _first_nonfinite_weight(model: PreTrainedModel) -> tuple[str | None, bool]:
    """Name of the first weight that is not finite, and whether all non-finite weights are infinite."""
    broken = [(name, weight) for name, weight in model.named_parameters() if not bool(weight.isfinite().all())]
    overflows = not any(bool(weight.isnan().any()) for _, weight in broken)
    return (broken[0][0] if broken else None), overflows
