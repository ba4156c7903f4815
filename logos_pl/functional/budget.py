"""How many optimiser steps a token budget buys, how they are batched, and the learning rate along them."""

import math
from typing import NamedTuple

from logos_pl.errors import InputError


class Batching(NamedTuple):
    """How one optimiser step's sequences are split.

    Attributes:
        micro_batch_seqs: Sequences in one forward pass of one process.
        grad_accum: Forward passes per optimiser step and process.
        world_size: Processes.
    """

    micro_batch_seqs: int
    grad_accum: int
    world_size: int

    @property
    def sequences(self) -> int:
        """Sequences of an optimiser step."""
        return self.micro_batch_seqs * self.grad_accum * self.world_size


def total_steps(tokens: int, seq_len: int, effective_batch_seqs: int) -> int:
    """Optimiser steps that consume at least ``tokens``: the last, partial step counts as one.

    Raises:
        InputError: If any of the three is not positive.
    """
    if min(tokens, seq_len, effective_batch_seqs) < 1:
        raise InputError(
            f"A budget of {tokens} tokens in steps of {effective_batch_seqs} sequences of {seq_len} tokens buys no "
            "step: give three positive numbers."
        )
    return -(-tokens // (seq_len * effective_batch_seqs))


def warmup_steps(total: int) -> int:
    """Warm-up steps: the first tenth of ``total``, rounded up."""
    return -(-total // 10)


def warmup_factor(step: int, warmup: int) -> float:
    """Fraction of the peak learning rate after ``step`` finished steps: linear to 1 at the last warm-up step."""
    return min((step + 1) / warmup, 1.0)


def average_weight(step: int) -> float:
    """Weight of what optimiser step ``step`` (from 1) gives in a running average of weights: 1, then 2 / (step + 1).

    The average then weights each step by its number: it needs no end to be known, and half of it is of the last third.
    Source: Shamir & Zhang, arXiv:1212.1824 (polynomial-decay averaging).
    """
    return 2 / (step + 1)


def lr_factor(step: int, total: int, warmup: int) -> float:
    """Fraction of the peak learning rate for the optimiser step after ``step`` finished ones.

    Linear to 1 at the last warm-up step, then a cosine that is exactly 0 at ``step == total`` (and stays there).
    """
    if step >= total:
        return 0.0
    if step < warmup:
        return warmup_factor(step, warmup)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def opening_sequences(total: int, effective_batch_seqs: int, lanes: int, seq_len: int, d_model: int) -> int:
    """Sequences of the run's opening that the closed-form start reads: whole steps, 1% of the budget.

    Of shorter runs it is 64 tokens for each unit of width, for moments of so many directions, within a quarter of the
    budget; and two sequences of every lane at the least.
    """
    for_moments = -(-64 * d_model // (seq_len * effective_batch_seqs))
    of_every_lane = -(-2 * lanes // effective_batch_seqs)
    return max(total // 100, min(for_moments, total // 4), of_every_lane) * effective_batch_seqs


def sequences_set_aside(opening: int, lanes: int) -> int:
    """How many of the opening's sequences, its last, the start is chosen on: an eighth, the same from every lane."""
    return -(-opening // (8 * lanes)) * lanes


def plan_batching(effective_batch_seqs: int, world_size: int, micro_batch_seqs: int) -> Batching:
    """The split of an effective batch over processes and accumulated micro-batches.

    Raises:
        InputError: If any number is not positive, or the effective batch is no multiple of processes × micro-batch.
    """
    numbers = (
        f"an effective batch of {effective_batch_seqs} sequences over {world_size} processes "
        f"with micro-batches of {micro_batch_seqs}"
    )
    if min(effective_batch_seqs, world_size, micro_batch_seqs) < 1:
        raise InputError(f"Cannot split {numbers}: give three positive numbers.")
    grad_accum, rest = divmod(effective_batch_seqs, world_size * micro_batch_seqs)
    if rest != 0:
        raise InputError(
            f"Cannot split {numbers} evenly: make the effective batch a multiple of {world_size * micro_batch_seqs}."
        )
    return Batching(micro_batch_seqs, grad_accum, world_size)
