"""Which positions and rows a step trains on: random draws that depend only on a seed and a counter.

There is no generator state to save, pass on or lose: sequence 1234 of seed 316 has the same positions in every
process, worker and resumed run. Only `random.Random.random` is used, the one sequence that Python promises
to keep the same in all versions.
"""

import functools
import math
import random
from fractions import Fraction

import torch
from jaxtyping import Int
from torch import Tensor

from logos_pl.errors import InputError

FIRST_SETTLED_POSITION = 8
"""Earlier positions are left out: their residual streams (attention sinks) are unlike those of all others."""


@functools.lru_cache(maxsize=32)
def position_bounds(seq_len: int, position_range: tuple[float, float]) -> tuple[int, int]:
    """First and last position of `position_range` in a sequence: ceil(lo · seq_len) and ceil(hi · seq_len) − 1.

    The fractions are taken as the decimals they are written as, so that 0.07 of 100 is 7 and not 8.

    Raises:
        InputError: If the range is not within [0, 1] or holds no position.
    """
    low, high = (Fraction(repr(float(bound))) for bound in position_range)
    first, last = math.ceil(low * seq_len), math.ceil(high * seq_len) - 1
    if not 0 <= low < high <= 1 or first > last:
        raise InputError(
            f"The position range {position_range} holds no position of a sequence of {seq_len} tokens; "
            "give two increasing fractions between 0 and 1 with --data.position_range."
        )
    return first, last


def sample_positions(
    seed: int, sequence_index: int, seq_len: int, num_positions: int, position_range: tuple[float, float]
) -> Int[Tensor, " pos"]:
    """Sorted positions of one sequence, without replacement, uniform over `position_range` of it.

    Raises:
        ValueError: If the range holds fewer than `num_positions` positions.

    Source: docs/method.md §2.1, positions.
    """
    first, last = position_bounds(seq_len, tuple(position_range))
    drawn = _sample(f"positions/{seed}/{sequence_index}", num_positions, last - first + 1)
    return torch.tensor([first + index for index in drawn], dtype=torch.long)


def sample_rows(seed: int, step: int, num_rows: int, candidates: int) -> Int[Tensor, " rows"]:
    """Sorted rows of one optimiser step, without replacement, out of 1 … `candidates`.

    Raises:
        ValueError: If there are fewer than `num_rows` candidates.

    Source: docs/method.md §2.1, rows per step.
    """
    drawn = _sample(f"rows/{seed}/{step}", num_rows, candidates)
    return torch.tensor([1 + index for index in drawn], dtype=torch.long)


def _sample(key: str, count: int, population: int) -> list[int]:
    """Sorted sample without replacement of `count` out of 0 … population − 1: a Fisher-Yates shuffle cut short."""
    if not 0 <= count <= population:
        raise ValueError(f"cannot draw {count} out of {population} without replacement")
    rng = random.Random(key)
    pool = list(range(population))
    for i in range(count):
        j = i + int(rng.random() * (population - i))
        pool[i], pool[j] = pool[j], pool[i]
    return sorted(pool[:count])
