"""Where tokens stand among the logits: the exact k largest, and the rank of one.

``torch.topk`` says nothing about which of equal values it returns, and copies every row to sort a part of it. Here
the maxima of short chunks come first, and only the k best chunks are searched.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_CHUNK = 64


def _of_the_largest(values: Float[Tensor, "*lead n"], k: int) -> Int[Tensor, "*lead k"]:
    """Indices of the k largest, of equal ones the lowest indices; equal values stand by index, others in any order.

    The k-th value is sure whichever of equal ones ``topk`` picks. Keys that are all different then decide: first what
    lies above it, then what equals it, each from the lowest index on.
    """
    n = values.shape[-1]
    kth = values.topk(k).values[..., -1:]
    above = torch.gt(values, kth, out=torch.empty_like(values))
    keys = torch.ge(values, kth, out=torch.empty_like(values)).add_(above).mul_(n)
    return keys.sub_(torch.arange(n, device=values.device, dtype=values.dtype)).topk(k).indices


def _best_chunks(whole: Float[Tensor, "*lead chunks chunk"], k: int) -> Int[Tensor, "*lead k"]:
    """The k chunks that hold the k largest, in ascending order."""
    return _of_the_largest(whole.amax(-1), k).sort(-1).values


def largest(z: Float[Tensor, "*lead vocab"], k: int) -> tuple[Float[Tensor, "*lead k"], Int[Tensor, "*lead k"]]:
    """The k largest logits and their ids, largest first; of equal logits the lowest id, also for the last place.

    A row with NaN gets k different ids of its vocabulary, in no meaningful order.
    """
    num_chunks = z.shape[-1] // _CHUNK
    if num_chunks <= k:
        ids = _of_the_largest(z, k)
        values = z.gather(-1, ids)
    else:
        # What does not fill a chunk is searched in any case; it stands last, so that places are in the order of ids.
        whole, tail = z[..., : num_chunks * _CHUNK].unflatten(-1, (-1, _CHUNK)), z[..., num_chunks * _CHUNK :]
        chunks = _best_chunks(whole, k)
        searched = whole.gather(-2, chunks[..., None].expand(*chunks.shape, _CHUNK)).flatten(-2)
        searched = torch.cat([searched, tail], -1)
        at = _of_the_largest(searched, k)
        chunks = torch.cat([chunks, chunks.new_full((*chunks.shape[:-1], 1), num_chunks)], -1)
        values, ids = searched.gather(-1, at), chunks.gather(-1, at // _CHUNK) * _CHUNK + at % _CHUNK
    values, order = torch.sort(values, dim=-1, descending=True, stable=True)
    return values, ids.gather(-1, order)


def at_ids(values: Float[Tensor, "pos rows vocab"], ids: Int[Tensor, "pos"]) -> Float[Tensor, "pos rows"]:
    """Values at one id per position; at id 0 where it is negative."""
    return values.gather(-1, ids.clamp(min=0)[:, None, None].expand(-1, values.shape[1], 1))[..., 0]


def rank_of_ids(z: Float[Tensor, "pos rows vocab"], ids: Int[Tensor, "pos"]) -> Int[Tensor, "pos rows"]:
    """1 + the number of logits strictly greater than that of one id per position; of id 0 where it is negative."""
    # Ones and zeros in floating point: summed several times faster than booleans, and exactly up to 2^24 tokens.
    greater = torch.gt(z, at_ids(z, ids)[..., None], out=torch.empty_like(z))
    return greater.sum(-1).long().add_(1)
