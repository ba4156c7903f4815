"""Optimiser steps of a token budget, how they are batched, and the learning rate at each of them."""

import math
from typing import NamedTuple

from logos_pl.errors import InputError


class BatchPlan(NamedTuple):
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
            f"A budget of {tokens} tokens in steps of {effective_batch_seqs} sequences of {seq_len} tokens has no "
            "step: give three positive numbers."
        )
    return -(-tokens // (seq_len * effective_batch_seqs))


def steps_of_pass(tokens: int, seq_len: int, effective_batch_seqs: int, passes: int, lanes: int) -> int:
    """Optimiser steps in one pass over a budget: with several passes, rounded up so that all lanes end it together.

    Raises:
        InputError: If tokens, sequence length or batch is not positive.
    """
    steps = total_steps(tokens, seq_len, effective_batch_seqs)
    of_every_lane = lanes // math.gcd(lanes, effective_batch_seqs)
    return steps if passes == 1 else -(-steps // of_every_lane) * of_every_lane


def warmup_steps(total: int) -> int:
    """Warm-up steps: the first tenth of ``total``, rounded up."""
    return -(-total // 10)


def warmup_factor(step: int, warmup: int) -> float:
    """Fraction of the peak learning rate after ``step`` finished steps: linear to 1 at the last warm-up step."""
    return min((step + 1) / warmup, 1.0)


def average_weight(step: int) -> float:
    """Share of the weights after optimiser step ``step`` (from 1) in their running average: 1, then 2 / (step + 1).

    Step t then has a weight proportional to t in the average; the number of steps need not be known.
    Source: docs/method.md §2.1; Shamir & Zhang, arXiv:1212.1824 (polynomial-decay averaging).
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
    """Sequences at the beginning of a run that the closed-form start is computed from: 1% of the budget, whole steps.

    Shorter runs use more: 64 tokens per dimension of the residual stream, as its moments need that many, up to a
    quarter of the budget; and at least two sequences of every lane.
    """
    for_moments = -(-64 * d_model // (seq_len * effective_batch_seqs))
    of_every_lane = -(-2 * lanes // effective_batch_seqs)
    return max(total // 100, min(for_moments, total // 4), of_every_lane) * effective_batch_seqs


def sequences_set_aside(opening: int, lanes: int) -> int:
    """Number of these sequences, the last, held out to choose the ridge: an eighth, the same number from each lane."""
    return -(-opening // (8 * lanes)) * lanes


def plan_batching(effective_batch_seqs: int, world_size: int, micro_batch_seqs: int) -> BatchPlan:
    """The split of an effective batch over processes and accumulated micro-batches.

    Raises:
        InputError: If any number is not positive, or the effective batch is not a multiple of processes × micro-batch.
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
    return BatchPlan(micro_batch_seqs, grad_accum, world_size)
