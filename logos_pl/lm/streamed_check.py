"""Checks at every load that running block by block gives bit for bit the results of the model's own code.

Some micro-batches are read as a group, and compared with what the model's own code gives with one block in memory at a
time. A difference shows whether blocks exchange more than the residual stream (keys and values that later blocks reuse,
several streams).

All blocks are read from disk four times: to find the model's parts, to verify them, to run the model's own code on
padded tokens, and to run the group. The group holds the inputs of the other three, for comparison, and the input that
the check of causality compares with the second of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from logos_pl.errors import InputError
from logos_pl.lm.anatomy import Anatomy
from logos_pl.lm.foreign import blaming
from logos_pl.lm.hooks import Watch, gathering
from logos_pl.lm.row_watch import watch_rows
from logos_pl.lm.streamed import StreamedBody
from logos_pl.lm.trace import same_bits
from logos_pl.lm.verify import Rows

EXCHANGE = "its blocks exchange more than the residual stream"
REMEDY = "give --model.placement resident"


def with_rows(blocks: Sequence[nn.Module], run: Callable[[], Any]) -> tuple[Any, Rows]:
    """The result of a function that runs the blocks once, and every row that they read or wrote."""
    rows: Rows = []

    def keep(h: Tensor | None) -> None:
        if h is not None:
            rows.append(h.clone())

    with gathering([(blocks[0], keep)], [(block, keep) for block in blocks]):
        result = run()
    return result, rows


@torch.no_grad()
def check_streamed(
    anatomy: Anatomy, streamed: StreamedBody, inputs: Sequence[dict[str, Any]], own: Sequence[Rows]
) -> list[Float[Tensor, "rows batch seq d_model"]]:
    """Every row of every micro-batch of a group, after comparing them bitwise with the model's own code.

    Args:
        anatomy: The parts of the model.
        streamed: Its blocks and their weights.
        inputs: Arguments of the body, by micro-batch.
        own: Rows of the first micro-batches from the model's own code; the other micro-batches are not compared.

    Raises:
        InputError: A row differs, or the blocks cannot be run one by one.
    """
    name = anatomy.architecture
    if [id(block) for block in anatomy.blocks] != [id(block) for block in streamed.blocks]:
        raise InputError(f"{name} cannot be streamed: it has several module lists of the same length; {REMEDY}.")
    found = [_room(anatomy, given) for given in inputs]
    with blaming(f"{name} cannot be streamed: {EXCHANGE}", REMEDY, name):
        streamed.run(anatomy.body, inputs, [watch for _, watch in found], [anatomy.num_blocks] * len(inputs))
    for (rows, _), wanted in zip(found, own, strict=False):  # `own` may have fewer micro-batches
        differing = [row for row, h in enumerate(wanted) if not same_bits(rows[row], h)]
        if differing:
            raise InputError(f"{name} cannot be streamed: {EXCHANGE} (row {differing[0]} differs); {REMEDY}.")
    return [rows for rows, _ in found]


def _room(anatomy: Anatomy, given: dict[str, Any]) -> tuple[Float[Tensor, "rows batch seq d_model"], Watch]:
    ids = given["input_ids"]
    count = anatomy.num_blocks + 1
    kept = torch.empty(count, *ids.shape, anatomy.d_model, dtype=anatomy.stream_dtype, device=ids.device)
    return kept, watch_rows(anatomy.blocks, range(count), None, kept)
