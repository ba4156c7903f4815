"""The body of a model that does not fit into memory, run block by block on a group of micro-batches.

Each block's weights are fetched once for the whole group, those of the next block while it computes. Nothing depends on
the family. The model's own code first runs once for each micro-batch with blocks that return their input; the arguments
recorded for each block (masks, rotary tables) are those that it is later called with. Wherever the model's code runs
unchanged, as for its logits, a block's weights are put in place just before it runs: slower, but with the same results.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from logos_pl.lm.block_weights import BlockWeights
from logos_pl.lm.hooks import Watch, first_tensor, gathering, output_tensor, with_first_tensor
from logos_pl.lm.pass_progress import ALONE, PassProgress, Turn

NO_NUMBERS = torch.empty(0)
"""Placeholder for the residual stream in recorded arguments."""


class Call(NamedTuple):
    """The arguments of a block, with ``NO_NUMBERS`` in place of the residual stream."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Group(NamedTuple):
    """Maximum size of a group; a single micro-batch may exceed it.

    Attributes:
        tokens: Tokens of its micro-batches.
        kept_bytes: Bytes of residuals that are kept for them on the host.
    """

    tokens: int
    kept_bytes: int


class StreamedBody:
    """The blocks of a model, and their weights on disk.

    Args:
        blocks: The blocks in order.
        weights: Their weights.
        group: Maximum size of the group that a block is run on.
        name: Name of the model in progress lines.
    """

    def __init__(self, blocks: Sequence[nn.Module], weights: BlockWeights, group: Group, name: str) -> None:
        self.blocks = list(blocks)
        self.weights = weights
        self.group = group
        self.progress = PassProgress(name, weights.stored_bytes)
        self._forms: list[Callable[[Tensor], Any]] = [lambda h: h for _ in blocks]
        self._owner = {id(part): number for number, block in enumerate(blocks) for part in block.modules()}
        for number, block in enumerate(blocks):
            block.forward = self._in_place(number, block.forward)

    def _in_place(self, number: int, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Run a block after putting its weights in place."""

        @functools.wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            self.progress.begins(number)
            self.weights.take(number)
            output = forward(*args, **kwargs)
            self._forms[number] = _form(output)
            return output

        return run

    def holds(self, tokens: int, kept_bytes: int) -> bool:
        """Whether micro-batches with so many tokens and kept bytes fit into one group."""
        return tokens <= self.group.tokens and kept_bytes <= self.group.kept_bytes

    @torch.no_grad()
    def run(
        self,
        body: nn.Module,
        inputs: Sequence[dict[str, Any]],
        watches: Sequence[Watch],
        ends: Sequence[int],
        turn: Turn = ALONE,
    ) -> None:
        """Run the blocks on a group of micro-batches, for what is gathered from them.

        Args:
            body: The model without its head.
            inputs: Its arguments, by micro-batch.
            watches: What is gathered from blocks and their parts, by micro-batch.
            ends: Number of the block after which each ends.
            turn: Position of the group among all that will be read, for progress.
        """
        calls: list[list[Call]] = []
        streams: list[Tensor] = []
        for given in inputs:
            stream, called = self._record(body, given)
            streams.append(stream)
            calls.append(called)
        by_block = [self._by_block(watch) for watch in watches]
        self.progress.begins_group(len(inputs), turn)
        for number, block in enumerate(self.blocks[: max(ends)]):
            for index, stream in enumerate(streams):
                if number >= ends[index]:
                    continue
                args, kwargs = with_first_tensor(*calls[index][number], stream)
                with gathering(*by_block[index][number]):
                    streams[index] = _stream_of(block(*args, **kwargs))
        self.progress.ends_group()

    def _record(self, body: nn.Module, given: dict[str, Any]) -> tuple[Tensor, list[Call]]:
        """The first block's input, and the other arguments of every block."""
        calls: list[Call] = []
        first: list[Tensor] = []

        def record(number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if number != len(calls):
                raise CalledOtherwiseError(number)
            if not calls:
                first.append(_stream_of(first_tensor(args, kwargs)))
            calls.append(Call(*with_first_tensor(args, kwargs, NO_NUMBERS)))

        with self.passing_through(record):
            body(**given)
        if len(calls) != len(self.blocks):
            raise CalledOtherwiseError(len(calls))
        return first[0], calls

    @contextmanager
    def passing_through(
        self, record: Callable[[int, tuple[Any, ...], dict[str, Any]], None] = lambda *_: None
    ) -> Iterator[None]:
        """Inside, every block returns its input, in the form of its last output; no weights are fetched.

        Args:
            record: Called with the number and the arguments of each block.
        """

        def replaced(number: int) -> Callable[..., Any]:
            def forward(*args: Any, **kwargs: Any) -> Any:
                record(number, args, kwargs)
                return self._forms[number](_stream_of(first_tensor(args, kwargs)))

            return forward

        own = [block.forward for block in self.blocks]
        with ExitStack() as undo:
            for number, block in enumerate(self.blocks):
                undo.callback(setattr, block, "forward", own[number])
                block.forward = replaced(number)
            yield

    def _by_block(self, watch: Watch) -> list[Watch]:
        parts: list[Watch] = [Watch([], []) for _ in self.blocks]
        for kind, takes in enumerate(watch):
            for module, take in takes:
                parts[self._owner[id(module)]][kind].append((module, take))  # type: ignore[attr-defined]
        return parts


class CalledOtherwiseError(Exception):
    """The model does not call its blocks in order, once each. Detected when it is loaded."""

    def __init__(self, number: int) -> None:
        super().__init__(f"block {number + 1} is called out of order")


def _stream_of(output: Any) -> Tensor:
    stream = output_tensor(output)
    if stream is None:
        raise TypeError("a block reads or writes no tensor.")
    return stream


def _form(output: Any) -> Callable[[Tensor], Any]:
    """A function that gives a tensor the form of a block's output: itself, or first in a tuple of the same length."""
    if not isinstance(output, tuple | list):
        return lambda h: h
    kind, rest = type(output), [None] * (len(output) - 1)
    return lambda h: kind((h, *rest))
