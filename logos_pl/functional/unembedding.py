"""The unembedding: what the head does after its norm.

A half-precision head rounds the operands of its products and nothing else: logits are fp32.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.functional.blocks import spans

WIDENED_BYTES = 2**26
"""Bytes of a half-precision unembedding that are held in fp32 at a time, where its products need it (not CUDA)."""


class Unembedding(NamedTuple):
    """What the head does after its norm: ``logits = softcap(scale · (x @ weight.T + bias))``.

    Attributes:
        weight: The unembedding matrix W_U; may be half precision, products then accumulate in fp32.
        bias: The head's bias, or None.
        scale: Logit multiplier (1 where the model has none).
        softcap: ``cap`` of ``cap · tanh(z / cap)``, or None.
    """

    weight: Float[Tensor, "vocab d_head"]
    bias: Float[Tensor, "vocab"] | None = None
    scale: float = 1.0
    softcap: float | None = None


class PreparedHead(NamedTuple):
    """An unembedding made ready for products: ``logits = amplitude · f(x @ weight.T · scale + bias)``.

    ``f`` is tanh under a soft-cap and nothing otherwise, so that scale and cap need no extra pass over the vocabulary.
    """

    weight: Float[Tensor, "vocab d_head"]
    bias: Float[Tensor, "vocab"] | None
    scale: float
    amplitude: float
    capped: bool
    operand_dtype: torch.dtype
    dtype: torch.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of the logits of one row at one position."""
        return self.weight.shape[0] * self.dtype.itemsize


def prepare(head: Unembedding, x_dtype: torch.dtype) -> PreparedHead:
    """``head`` with its constants folded, computing in fp64 for fp64 ``x`` over a full-precision head, else in fp32."""
    half = head.weight.dtype.itemsize == 2
    dtype = torch.float64 if x_dtype == torch.float64 and not half else torch.float32
    amplitude = 1.0 if head.softcap is None else head.softcap
    scale = head.scale / amplitude
    return PreparedHead(
        weight=head.weight if half else head.weight.to(dtype),
        bias=None if head.bias is None else head.bias.to(dtype) * scale,
        scale=scale,
        amplitude=amplitude,
        capped=head.softcap is not None,
        operand_dtype=head.weight.dtype if half else dtype,
        dtype=dtype,
    )


def widened(weight: Float[Tensor, "vocab d_head"], dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """An unembedding in a wider number format, in pieces of the vocabulary, without a second copy of it.

    If it is already in that format, it is yielded whole and unchanged.
    """
    if weight.dtype == dtype:
        yield slice(None), weight
        return
    for part in spans(weight.shape[0], max(1, WIDENED_BYTES // (dtype.itemsize * weight.shape[1]))):
        yield part, weight[part].to(dtype)


def by_vocabulary(x: Float[Tensor, "n d_head"], head: PreparedHead) -> Float[Tensor, "n vocab"]:
    """``x @ weight.T`` with ``x`` rounded to the head's own precision, accumulated in the computing dtype."""
    x = x.to(head.operand_dtype)
    if head.weight.dtype == head.dtype:
        return torch.mm(x, head.weight.T)
    if head.weight.is_cuda:
        return torch.mm(x, head.weight.T, out_dtype=head.dtype)
    # Only CUDA multiplies half operands into fp32.
    x, out = x.to(head.dtype), x.new_empty(x.shape[0], head.weight.shape[0], dtype=head.dtype)
    for part, weight in widened(head.weight, head.dtype):
        out[:, part] = torch.mm(x, weight.T)
    return out


def over_vocabulary(g: Float[Tensor, "n vocab"], head: PreparedHead) -> Float[Tensor, "n d_head"]:
    """``g @ weight`` with ``g`` rounded to the head's own precision, accumulated in the computing dtype."""
    if head.weight.dtype == head.dtype:
        return torch.mm(g.to(head.operand_dtype), head.weight)
    if head.weight.is_cuda:
        return torch.mm(g.to(head.operand_dtype), head.weight, out_dtype=head.dtype)
    out = g.new_zeros(g.shape[0], head.weight.shape[1], dtype=head.dtype)
    for part, weight in widened(head.weight, head.dtype):
        out.addmm_(g[:, part].to(head.operand_dtype).to(head.dtype), weight)
    return out


def unscaled_logits(x: Float[Tensor, "*lead d_head"], head: PreparedHead) -> Float[Tensor, "*lead vocab"]:
    """Logits divided by ``head.amplitude``, in a fresh tensor that may be overwritten."""
    flat = x.reshape(-1, x.shape[-1]).to(head.dtype) * head.scale
    if head.bias is not None and head.operand_dtype == head.dtype:
        z = torch.addmm(head.bias, flat, head.weight.T)
    else:
        z = by_vocabulary(flat, head)
        if head.bias is not None:
            z = z.add_(head.bias)
    if head.capped:
        z = z.tanh_()
    return z.view(*x.shape[:-1], -1)


def block_logits(x: Float[Tensor, "rows pos d_head"], head: PreparedHead) -> Float[Tensor, "pos rows vocab"]:
    """Logits of one block, positions first, divided by ``head.amplitude``; they may be overwritten."""
    return unscaled_logits(x.transpose(0, 1), head)


def unembed(x: Float[Tensor, "*lead d_head"], head: Unembedding) -> Float[Tensor, "*lead vocab"]:
    """Logits in fp32, or in fp64 for fp64 ``x`` over a full-precision head."""
    with torch.autocast(x.device.type, enabled=False):
        prepared = prepare(head, x.dtype)
        logits = unscaled_logits(x, prepared)
        return logits if not prepared.capped else logits * prepared.amplitude
