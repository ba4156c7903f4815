"""The residual stream at chosen rows and positions, gathered while the body runs.

Nothing else is kept: no logits, no other rows, no full-length rows when positions are given.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from logos_pl.lm.frozen import Forward, FrozenLM
from logos_pl.lm.hooks import Watch
from logos_pl.lm.pass_progress import ALONE, Turn
from logos_pl.lm.row_watch import watch_rows
from logos_pl.lm.sharded import Sharing

Batch = TypeVar("Batch")


class Request(NamedTuple):
    """What to gather from one micro-batch.

    Attributes:
        input_ids: Token ids; padded where ``attention_mask`` is 0.
        positions: Indices into ``seq`` per sequence; None keeps every position.
        rows: Rows kept there, numbered as in docs/method.md: 0 is the input of the first block, L the output of block
            L.
        attention_mask: 1 for tokens, 0 for padding on either side. Padding never changes a token's numbers.
        whole_rows: Rows kept at every position.
        beside: What else to gather in the same forward pass.
        beside_room: Tensor for that; it is returned with the residuals.
    """

    input_ids: Int[Tensor, "batch seq"]
    positions: Int[Tensor, "batch pos"] | None
    rows: Sequence[int]
    attention_mask: Integer[Tensor, "batch seq"] | None = None
    whole_rows: Sequence[int] = ()
    beside: Watch = Watch()
    beside_room: Tensor | None = None


class Residuals(NamedTuple):
    """Residuals of one micro-batch in the stream's dtype; without gradient, but usable in a graph.

    Attributes:
        rows: Those of ``Request.rows``, in that order.
        whole: Those of ``Request.whole_rows``.
        beside: What else was gathered.
    """

    rows: Float[Tensor, "rows batch pos d_model"]
    whole: Float[Tensor, "whole_rows batch seq d_model"]
    beside: Tensor | None = None


def residuals(
    lm: FrozenLM,
    input_ids: Int[Tensor, "batch seq"],
    positions: Int[Tensor, "batch pos"] | None,
    rows: Sequence[int],
    attention_mask: Integer[Tensor, "batch seq"] | None = None,
) -> Float[Tensor, "rows batch pos d_model"]:
    """Residuals of one micro-batch; the arguments are those of ``Request``.

    Raises:
        ValueError: A row or a position outside the model or the sequence.
    """
    (found,) = gather(lm, [Request(input_ids, positions, rows, attention_mask)])
    return found.rows


@torch.no_grad()
def gather(lm: FrozenLM, requests: Sequence[Request], turn: Turn = ALONE) -> list[Residuals]:
    """Residuals of some micro-batches; a streamed model fetches its weights once for all of them.

    For a streamed model and several micro-batches, they are on the host; otherwise on the model's device.

    Args:
        lm: The frozen model.
        requests: What to gather.
        turn: Their position among all that will be read, for progress.

    Raises:
        ValueError: A row or a position outside the model or the sequence.
    """
    kept = [_room(lm, request, on_host=lm.streamed is not None and len(requests) > 1) for request in requests]
    forwards = [
        Forward(request.input_ids, request.attention_mask, _watch(lm, request, room))
        for request, room in zip(requests, kept, strict=True)
    ]
    lm.run(forwards, turn)
    return kept


def read_in_groups(
    lm: FrozenLM, batches: Iterable[Batch], ask: Callable[[Batch], Request]
) -> Iterator[tuple[Batch, Residuals]]:
    """Yields every micro-batch with its residuals, in order, on the model's device.

    A resident model reads one micro-batch at a time, on demand. A streamed one reads ahead as many as its group holds,
    and fetches its weights once for all of them. Processes that share a sharded model read in step: one that has no
    more micro-batches continues until no process has any.

    Args:
        lm: The frozen model.
        batches: Micro-batches.
        ask: Returns what to gather from a micro-batch.

    Raises:
        ValueError: A row or a position outside the model or the sequence.
    """
    if lm.sharing is not None:
        yield from _read_in_step(lm, lm.sharing, iter(batches), ask)
        return
    turn = Turn(expected=len(batches) if isinstance(batches, Sized) else None)
    for group in _groups(lm, batches, ask):
        found = gather(lm, [request for _, request in group], turn)
        turn = turn._replace(done=turn.done + len(group))
        for batch, _ in group:
            own = found.pop(0)
            yield batch, own._replace(rows=own.rows.to(lm.device), whole=own.whole.to(lm.device))


def _read_in_step(
    lm: FrozenLM, sharing: Sharing, batches: Iterator[Batch], ask: Callable[[Batch], Request]
) -> Iterator[tuple[Batch, Residuals]]:
    """Each micro-batch with its residuals, in as many forward passes as the process with the most has."""
    coming = list(islice(batches, 1))
    if not coming:
        _read_along(lm, sharing)
    while coming:
        (batch,) = coming
        sharing.anyone_reads(True)
        (found,) = gather(lm, [ask(batch)])
        coming = list(islice(batches, 1))
        if not coming:  # before it is yielded: a caller that counts micro-batches does not return after the last one
            _read_along(lm, sharing)
        yield batch, found


def _read_along(lm: FrozenLM, sharing: Sharing) -> None:
    """Run dummy forward passes on one token as long as another process reads."""
    while sharing.anyone_reads(False):
        lm.run([Forward(torch.zeros(1, 1, dtype=torch.long))])


def _groups(
    lm: FrozenLM, batches: Iterable[Batch], ask: Callable[[Batch], Request]
) -> Iterator[list[tuple[Batch, Request]]]:
    """Micro-batches with what to gather from them, in groups as large as the model allows; at least one each."""
    group: list[tuple[Batch, Request]] = []
    tokens = kept = 0
    for batch in batches:
        request = ask(batch)
        more, room = request.input_ids.numel(), _num_bytes(lm, request)
        if group and (lm.streamed is None or not lm.streamed.holds(tokens + more, kept + room)):
            yield group
            group, tokens, kept = [], 0, 0
        group.append((batch, request))
        tokens, kept = tokens + more, kept + room
        if lm.streamed is None:
            yield group
            group = []
    if group:
        yield group


def _num_bytes(lm: FrozenLM, request: Request) -> int:
    """Tensors that hold what is gathered from a micro-batch."""
    seqs, width = request.input_ids.shape
    num_pos = width if request.positions is None else request.positions.shape[1]
    vectors = seqs * (len(request.rows) * num_pos + len(request.whole_rows) * width)
    return vectors * lm.d_model * lm.stream_dtype.itemsize


def _room(lm: FrozenLM, request: Request, on_host: bool) -> Residuals:
    """Allocate tensors for what is gathered from a micro-batch.

    Raises:
        ValueError: A row or a position outside the model or the sequence.
    """
    _check([*request.rows, *request.whole_rows], lm.num_blocks, request.positions, request.input_ids.shape)
    seqs, width = request.input_ids.shape
    options: dict[str, Any] = {"dtype": lm.stream_dtype, "device": lm.device}
    if on_host:
        options |= {"device": "cpu", "pin_memory": lm.device.type == "cuda"}
    num_pos = width if request.positions is None else request.positions.shape[1]
    return Residuals(
        torch.empty(len(request.rows), seqs, num_pos, lm.d_model, **options),
        torch.empty(len(request.whole_rows), seqs, width, lm.d_model, **options),
        request.beside_room,
    )


def _watch(lm: FrozenLM, request: Request, room: Residuals) -> Watch:
    blocks = lm.anatomy.blocks
    index = None if request.positions is None else request.positions.to(lm.device)
    parts = [
        watch_rows(blocks, request.rows, index, room.rows),
        watch_rows(blocks, request.whole_rows, None, room.whole),
        request.beside,
    ]
    return Watch([take for part in parts for take in part.reads], [take for part in parts for take in part.writes])


def _check(rows: Sequence[int], num_blocks: int, positions: Tensor | None, shape: torch.Size) -> None:
    outside = [row for row in rows if not 0 <= row <= num_blocks]
    if outside:
        raise ValueError(f"rows {outside} are outside 0 … {num_blocks}.")
    if positions is None or positions.numel() == 0 or positions.device.type != "cpu":
        return  # On an accelerator this check would wait for the device at every step; gather checks bounds itself
    if positions.min() < 0 or positions.max() >= shape[1]:
        raise ValueError(f"positions must lie in 0 … {shape[1] - 1}.")
