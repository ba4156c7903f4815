"""The hash by which the `tuned-lens` package identifies a model: of its unembedding, as numpy prints it."""

import hashlib
from typing import Any

import numpy
import torch
from jaxtyping import Float
from torch import Tensor

# numpy prints a matrix of more numbers than this by its three outermost rows and columns on each side.
_PRINTED_WHOLE, _EDGE = 1000, 3
# Said once more, because a notebook may have set others.
_NUMPYS_DEFAULTS: dict[str, Any] = {
    "max_line_width": 75, "suppress_small": False, "floatmode": "maxprec", "sign": "-"
}  # fmt: skip


def unembed_hash(weight: Float[Tensor, "vocab d_model"], dtype: torch.dtype = torch.float32) -> str:
    """SHA-256 of an unembedding as numpy prints it with one digit, which identifies a model in the format.

    Of a large matrix numpy prints the 36 numbers in the corners: two models differ in them, but equal corners do not
    show that the rest is equal.

    Args:
        weight: The unembedding.
        dtype: Number format to round it to before.
    """
    large = weight.numel() > _PRINTED_WHOLE
    # One row or column more than is printed stands for all those between.
    rows, columns = (
        [*range(_EDGE + 1), *range(size - _EDGE, size)] if large and size > 2 * _EDGE else list(range(size))
        for size in weight.shape
    )
    numbers = weight[rows][:, columns].to(dtype).float().cpu().numpy()
    text = numpy.array2string(
        numbers, precision=1, threshold=0 if large else _PRINTED_WHOLE, edgeitems=_EDGE, **_NUMPYS_DEFAULTS
    )
    return hashlib.sha256(text.encode()).hexdigest()
