"""The hash by which the `tuned-lens` package identifies a model: that of its unembedding as printed by numpy."""

import hashlib
from typing import Any

import numpy
import torch
from jaxtyping import Float
from torch import Tensor

# numpy abbreviates a matrix with more numbers than this to its three outermost rows and columns on each side.
_PRINTED_WHOLE, _EDGE = 1000, 3
# numpy's defaults, given explicitly because a notebook may have changed them.
_NUMPYS_DEFAULTS: dict[str, Any] = {
    "max_line_width": 75, "suppress_small": False, "floatmode": "maxprec", "sign": "-"
}  # fmt: skip


def unembed_hash(weight: Float[Tensor, "vocab d_model"], dtype: torch.dtype = torch.float32) -> str:
    """SHA-256 of an unembedding as numpy prints it with one digit, which identifies a model in the format.

    numpy prints only the 36 numbers in the corners of a large matrix: different models differ there, but equal corners
    do not prove that the rest is equal.

    Args:
        weight: The unembedding.
        dtype: Number format to which it is rounded first.
    """
    large = weight.numel() > _PRINTED_WHOLE
    # One extra row and column stand for all that are not printed.
    rows, columns = (
        [*range(_EDGE + 1), *range(size - _EDGE, size)] if large and size > 2 * _EDGE else list(range(size))
        for size in weight.shape
    )
    numbers = weight[rows][:, columns].to(dtype).float().cpu().numpy()
    text = numpy.array2string(
        numbers, precision=1, threshold=0 if large else _PRINTED_WHOLE, edgeitems=_EDGE, **_NUMPYS_DEFAULTS
    )
    return hashlib.sha256(text.encode()).hexdigest()
