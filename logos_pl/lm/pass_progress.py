"""Progress of a pass over the blocks of a streamed model: a line from time to time, none for a quick pass."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from logos_pl.io.terminal import say

SECONDS_BETWEEN_LINES = 5.0


class Turn(NamedTuple):
    """The position of a group among all micro-batches to read.

    Attributes:
        done: Micro-batches read before it.
        expected: Total number; None if unknown.
    """

    done: int = 0
    expected: int | None = None


ALONE = Turn()
"""A group without known predecessors or successors."""


class PassProgress:
    """Counts the blocks of a pass; after some seconds, prints the current block, the speed and the remaining time.

    Args:
        name: Name of the model.
        stored_bytes: Bytes that are read for each block.
    """

    def __init__(self, name: str, stored_bytes: Sequence[int]) -> None:
        self._name = name
        self._stored_bytes = list(stored_bytes)
        self._what = "checks at load, "
        self._groups_after = 0
        self._began = self._said = time.monotonic()
        self._last = -1

    def begins_group(self, size: int, turn: Turn) -> None:
        """Name the pass's micro-batches in the lines that follow."""
        first, last = turn.done + 1, turn.done + size
        self._what = f"micro-batches {first} to {last}"
        self._groups_after = 0
        if turn.expected is not None:
            self._what += f" of {turn.expected}"
            self._groups_after = -(-(turn.expected - last) // size)
        self._what += ", "

    def ends_group(self) -> None:
        """Stop naming micro-batches."""
        self._what, self._groups_after = "", 0

    def begins(self, number: int) -> None:
        """Count a block each time it runs on a micro-batch; block 0 after another block begins a new pass."""
        now = time.monotonic()
        if number == 0 and self._last != 0:
            self._began = self._said = now
        self._last = number
        if number == 0 or now - self._said < SECONDS_BETWEEN_LINES:
            return
        self._said = now
        say(self._line(number, now - self._began))

    def _line(self, number: int, seconds: float) -> str:
        blocks = len(self._stored_bytes)
        rate = sum(self._stored_bytes[:number]) / seconds
        whole = seconds / number * blocks
        line = (
            f"{self._name} streams: {self._what}block {number + 1} of {blocks} · {rate / 1e6:,.0f} MB/s · "
            f"{_duration(whole - seconds)} left in this pass"
        )
        if self._groups_after:
            line += f", {_duration(whole - seconds + self._groups_after * whole)} in total"
        return line


def _duration(seconds: float) -> str:
    """A duration in seconds or, if long, in minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
