"""Reads a shard once for all lanes of a worker that share its rows.

With fewer shards than lanes, each lane would otherwise decode (and download) the whole file for its part. The lanes
advance at nearly the same pace, as each emits one sequence in turn; rows of other lanes are buffered until needed. The
order of training is not affected.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from logos_pl.data.lanes import START, LaneCursor, Part, Read, TrainText, read_alone
from logos_pl.data.shards import Row, Shard, read_rows
from logos_pl.errors import LogosError

MOST_KEPT_CHARS = 2**26
"""Maximum number of characters buffered in a pass; a lane that falls further behind then reads independently."""


class Remainders(NamedTuple):
    """Rows whose index modulo `modulus` is one of the given remainders."""

    remainders: frozenset[int]
    modulus: int

    def holds(self, row: int) -> bool:
        """Whether `row` is included."""
        return row % self.modulus in self.remainders


class ShardPass:
    """A pass over a shard that distributes its rows to strides.

    Args:
        shard: The shard.
        text_column: Column with the text.
        start: First row needed by any stride.
        strides: Rows of the strides, each of which has one remainder.
    """

    def __init__(self, shard: Shard, text_column: str, start: int, strides: Remainders) -> None:
        self.shard, self.text_column, self.start, self.modulus = shard, text_column, start, strides.modulus
        self._kept: dict[int, deque[Row]] = {remainder: deque() for remainder in strides.remainders}
        self._num_chars = 0
        self._left_at: dict[int, int] = {}
        self._rows = read_rows(shard, text_column, start, strides)
        self._failure: LogosError | None = None
        self._ended = False

    @property
    def done(self) -> bool:
        """Whether all rows were read and taken."""
        return self._ended and not any(self._kept.values())

    def take(self, part: Part, start: int) -> Iterator[Row]:
        """Yield the rows of one stride from `start` on.

        Raises:
            LogosError: As `read_rows`.
        """
        remainder = part.stride.remainder
        while remainder in self._kept and (self._kept[remainder] or self._read_on()):
            if self._kept.get(remainder):
                row, text = self._kept[remainder].popleft()
                self._num_chars -= len(text or "")
                if row >= start:
                    yield row, text
        if remainder in self._left_at:
            yield from read_rows(self.shard, self.text_column, max(start, self._left_at[remainder]), part.stride)

    def leave(self, remainder: int) -> None:
        """Stop buffering for a stride."""
        queue = self._kept.pop(remainder, deque())
        self._num_chars -= sum(len(text or "") for _, text in queue)

    def _read_on(self) -> bool:
        """Read the next row; returns False at the end."""
        if self._failure is not None:
            raise self._failure
        try:
            row, text = next(self._rows, (None, None))
        except LogosError as error:
            self._failure = error
            raise
        if row is None:
            self._ended = True
            return False
        if row % self.modulus in self._kept:
            self._kept[row % self.modulus].append((row, text))
            self._num_chars += len(text or "")
            if self._num_chars > MOST_KEPT_CHARS:
                self._send_off_the_last()
        return True

    def _send_off_the_last(self) -> None:
        """Detach the stride that is furthest behind; it reads its remaining rows independently."""
        behind = min((queue[0][0], remainder) for remainder, queue in self._kept.items() if queue)
        self._left_at[behind[1]] = behind[0]
        self.leave(behind[1])


class SharedRows:
    """Shared reading of the lanes of one worker.

    Args:
        lanes: Parts and cursor of each lane.
    """

    def __init__(self, lanes: Iterable[tuple[Sequence[Part], LaneCursor]]) -> None:
        self._readings: dict[tuple[str, int], ShardPass] = {}
        self._strides: dict[str, set[int]] = {}
        self._starts: dict[tuple[str, int], int] = {}
        for parts, cursor in lanes:
            for part in parts:
                self._strides.setdefault(part.shard.name, set()).add(part.stride.remainder)
            key = (cursor.shard or parts[0].shard.name, cursor.pass_index)
            self._starts[key] = min(self._starts.get(key, cursor.row), cursor.row)

    def read(self, part: Part, text_column: str, pass_index: int, start: int) -> Iterator[Row]:
        """Yield a lane's rows of a part from `start` on; the pass index never decreases.

        Raises:
            LogosError: As `read_rows`.
        """
        remainders = self._strides[part.shard.name]
        if len(remainders) == 1:
            return read_alone(part, text_column, pass_index, start)
        key = (part.shard.name, pass_index)
        if key not in self._readings:
            self._readings = {place: reading for place, reading in self._readings.items() if not reading.done}
            strides = Remainders(frozenset(remainders), part.stride.modulus)
            self._readings[key] = ShardPass(part.shard, text_column, self._starts.get(key, 0), strides)
        reading = self._readings[key]
        if start < reading.start:  # this lane resumed in the previous pass, while others had begun this one
            reading.leave(part.stride.remainder)
            return read_alone(part, text_column, pass_index, start)
        return reading.take(part, start)


class PassRows:
    """Shared reading of the lanes of one worker in each pass of training.

    The lanes begin a pass one after another, so the last of them may still be in the pass before.

    Args:
        text: Text of the fit.
        lanes: Parts and cursor of each lane.
    """

    def __init__(self, text: TrainText, lanes: Mapping[int, tuple[Sequence[Part], LaneCursor]]) -> None:
        self._begun = [(parts, *text.training_pass(cursor)) for parts, cursor in lanes.values()]
        self._passes: dict[int, SharedRows] = {}

    def read_in(self, index: int) -> Read:
        """Return the function that reads a lane's rows in the training pass with this index."""
        if index not in self._passes:
            self._passes = {earlier: rows for earlier, rows in self._passes.items() if earlier == index - 1}
            self._passes[index] = SharedRows(
                (parts, place if first == index else START) for parts, first, place in self._begun if first <= index
            )
        return self._passes[index].read
