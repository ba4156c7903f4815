"""The mean Jacobian of the last row by each row, from gradients of single output dimensions, with its error.

A sequence gives the gradient of an output dimension, summed over later valid positions and averaged over positions. It
is one row of that sequence's Jacobian. Measuring all dimensions of every sequence gives the mean exactly; measuring a
few of each, evenly distributed, estimates it: each row of the matrix is then a mean over different sequences.
"""

import functools
import random
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class JacobianSums(NamedTuple):
    """Sums over sequences, updated in place.

    Attributes:
        gradients: Sum of the gradients of each output dimension.
        squares: Sum of their squared norms.
        counts: Number of sequences that each output dimension was measured on.
    """

    gradients: Float[Tensor, "rows d_model d_model"]
    squares: Float[Tensor, "rows d_model"]
    counts: Int[Tensor, " d_model"]


def empty_sums(rows: int, d_model: int, device: torch.device | str = "cpu") -> JacobianSums:
    """Sums over no sequence."""
    return JacobianSums(
        torch.zeros(rows, d_model, d_model, device=device),
        torch.zeros(rows, d_model, device=device),
        torch.zeros(d_model, dtype=torch.long, device=device),
    )


def add_gradients(
    sums: JacobianSums, gradients: Float[Tensor, "rows batch d_model"], dims: Int[Tensor, " batch"]
) -> None:
    """Add the gradients of one output dimension of each sequence.

    Args:
        sums: Updated in place.
        gradients: By row and sequence, in fp32.
        dims: The output dimension of each sequence.
    """
    sums.gradients.index_add_(1, dims, gradients)
    sums.squares.index_add_(1, dims, gradients.square().sum(-1))
    sums.counts.index_add_(0, dims, torch.ones_like(dims))


def mean_jacobian(sums: JacobianSums) -> Float[Tensor, "rows d_model d_model"]:
    """Mean Jacobian by row: output dimension by input dimension.

    Raises:
        ValueError: An output dimension was never measured.
    """
    _refuse_unmeasured(sums, least=1)
    return sums.gradients / sums.counts[:, None]


def relative_error(sums: JacobianSums) -> Float[Tensor, " rows"]:
    """Standard error of the mean Jacobian of each row, as a share of its Frobenius norm.

    Sequences are taken as independent: of each output dimension, the spread of its gradients over the sequences it was
    measured on gives the variance of their mean. It covers the choice of text as well as that of dimensions.

    Raises:
        ValueError: An output dimension was measured on fewer than two sequences.
    """
    _refuse_unmeasured(sums, least=2)
    counts = sums.counts.double()
    of_mean = mean_jacobian(sums).double().square().sum(-1)
    variance = (sums.squares.double() / counts - of_mean).clamp(min=0) / (counts - 1)
    return (variance.sum(-1) / of_mean.sum(-1)).sqrt()


def _refuse_unmeasured(sums: JacobianSums, least: int) -> None:
    fewest = int(sums.counts.min())
    if fewest < least:
        raise ValueError(f"an output dimension was measured on {fewest} sequences, and {least} are needed")


def probed_dimensions(
    seed: int, first_sequence: int, num_seqs: int, probes: int, d_model: int
) -> Int[Tensor, "num_seqs probes"]:
    """Output dimensions measured on consecutive sequences: a function only of the seed and of their numbers.

    All dimensions, shuffled anew for every cycle of ⌈d_model / probes⌉ sequences, are distributed over the sequences of
    the cycle; the last one is filled up from the beginning. So each cycle measures every dimension, and no sequence
    measures one twice.

    Args:
        seed: Seed of the shuffling.
        first_sequence: Number of the first sequence.
        num_seqs: How many sequences.
        probes: Dimensions of each sequence, at most all.
        d_model: Number of dimensions.
    """
    cycle = -(-d_model // probes)
    dealt = []
    for sequence in range(first_sequence, first_sequence + num_seqs):
        shuffled, start = _shuffled(seed, sequence // cycle, d_model), sequence % cycle * probes
        dealt.append([shuffled[(start + i) % d_model] for i in range(probes)])
    return torch.tensor(dealt).reshape(num_seqs, probes)


@functools.lru_cache(maxsize=8)
def _shuffled(seed: int, cycle: int, d_model: int) -> list[int]:
    """All dimensions in random order, by `random.random` alone, which is the same in every version of Python."""
    rng, order = random.Random(f"dimensions/{seed}/{cycle}"), list(range(d_model))
    for i in range(d_model - 1):
        j = i + int(rng.random() * (d_model - i))
        order[i], order[j] = order[j], order[i]
    return order
