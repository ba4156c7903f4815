"""Ranks of tokens among the logits: the exact k largest, and the rank of one token.

``torch.topk`` leaves undefined which of equal values it returns, and copies every row to sort a part of it. Here the
maxima of short chunks come first, and only the k best chunks are searched.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GROUP = 16


def _of_the_largest(values: Float[Tensor, "*lead n"], k: int) -> Int[Tensor, "*lead k"]:
    """Indices of the k largest; ties go to the lowest indices. Ties are in order of index, other values in any order.

    The k-th value does not depend on which of equal values ``topk`` picks. Distinct keys then decide: first the values
    above it, then those equal to it, each from the lowest index on.
    """
    n = values.shape[-1]
    kth = values.topk(k).values[..., -1:]
    above = torch.gt(values, kth, out=torch.empty_like(values))
    keys = torch.ge(values, kth, out=torch.empty_like(values)).add_(above).mul_(n)
    return keys.sub_(torch.arange(n, device=values.device, dtype=values.dtype)).topk(k).indices


def largest(z: Float[Tensor, "*lead vocab"], k: int) -> tuple[Float[Tensor, "*lead k"], Int[Tensor, "*lead k"]]:
    """The k largest logits and their ids, largest first; ties go to the lowest id, also for the last place.

    A row with NaN gets k different ids of its vocabulary, in no meaningful order.
    """
    num_groups = z.shape[-1] // _GROUP
    if num_groups <= k:
        return _largest_of_few(z, k)
    # Each group has every num_groups-th id: maxima across a stride are taken several times faster than within runs.
    places = torch.arange(0, num_groups * _GROUP, num_groups, device=z.device)
    whole, tail = z[..., : num_groups * _GROUP].unflatten(-1, (_GROUP, -1)), z[..., num_groups * _GROUP :]
    tops, groups = whole.amax(-2).topk(k + 1)
    ids = (groups[..., None, :k] + places[:, None]).flatten(-2)
    if tail.shape[-1]:
        of_tail = torch.arange(num_groups * _GROUP, z.shape[-1], device=z.device)
        ids = torch.cat([ids, of_tail.expand(*ids.shape[:-1], -1)], -1)
    values, at = z.gather(-1, ids).topk(k + 1)
    ids = ids.gather(-1, at[..., :k])
    # topk is exact where all numbers differ; which of equal ones it takes is undefined.
    tied = (tops[..., k - 1] == tops[..., k]) | (values[..., 1:] == values[..., :-1]).any(-1)
    values = values[..., :k]
    if bool(tied.any()):
        values = values.contiguous()
        values[tied], ids[tied] = _largest_of_few(z[tied], k)
    return values, ids


def _largest_of_few(z: Float[Tensor, "*lead n"], k: int) -> tuple[Float[Tensor, "*lead k"], Int[Tensor, "*lead k"]]:
    ids = _of_the_largest(z, k)
    values, order = torch.sort(z.gather(-1, ids), dim=-1, descending=True, stable=True)
    return values, ids.gather(-1, order)


def at_ids(values: Float[Tensor, "pos rows vocab"], ids: Int[Tensor, "pos"]) -> Float[Tensor, "pos rows"]:
    """Values at one id per position; at id 0 where it is negative."""
    return values.gather(-1, ids.clamp(min=0)[:, None, None].expand(-1, values.shape[1], 1))[..., 0]


def rank_of_ids(z: Float[Tensor, "pos rows vocab"], ids: Int[Tensor, "pos"]) -> Int[Tensor, "pos rows"]:
    """1 + the number of logits strictly greater than that of one id per position; of id 0 where it is negative."""
    # Ones and zeros in floating point: summed several times faster than booleans, and exactly up to 2^24 tokens.
    greater = torch.gt(z, at_ids(z, ids)[..., None], out=torch.empty_like(z))
    return greater.sum(-1).long().add_(1)
