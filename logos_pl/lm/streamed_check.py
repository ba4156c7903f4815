"""Whether block by block is what the model computes in one piece: tried at every load, bit for bit.

Two micro-batches are read as a group, and by the model's own code with one block in memory at a time. What a family
keeps between its blocks beside the residual stream (keys and values that later blocks reuse, several streams) shows
there.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.lm.anatomy import Anatomy
from logos_pl.lm.foreign import blaming
from logos_pl.lm.hooks import Watch, gathering
from logos_pl.lm.row_watch import watch_rows
from logos_pl.lm.streamed import StreamedBody
from logos_pl.lm.trace import same_bits

EXCHANGE = "its blocks exchange more than the residual stream"
REMEDY = "give --model.placement resident"


@torch.no_grad()
def check_streamed(anatomy: Anatomy, streamed: StreamedBody, inputs: Sequence[dict[str, Any]]) -> None:
    """Returns when every row of every micro-batch has the same bits either way.

    Args:
        anatomy: The parts of the model.
        streamed: Its blocks and their weights.
        inputs: Arguments of the body, by micro-batch.

    Raises:
        InputError: A row differs, or the blocks cannot be run one by one.
    """
    name = anatomy.architecture
    if [id(block) for block in anatomy.blocks] != [id(block) for block in streamed.blocks]:
        raise InputError(f"{name} cannot be streamed: it has several lists of as many blocks; {REMEDY}.")
    wanted = []
    for given in inputs:
        kept, watch = _rows(anatomy, given)
        with gathering(*watch):
            anatomy.body(**given)
        wanted.append(kept)
    found = [_rows(anatomy, given) for given in inputs]
    with blaming(f"{name} cannot be streamed: {EXCHANGE}", REMEDY, name):
        streamed.run(anatomy.body, inputs, [watch for _, watch in found], [anatomy.num_blocks] * len(inputs))
    for (rows, _), own in zip(found, wanted, strict=True):
        differing = [row for row in range(len(own)) if not same_bits(rows[row], own[row])]
        if differing:
            raise InputError(
                f"{name} cannot be streamed: {EXCHANGE} (row {differing[0]} comes out differently); {REMEDY}."
            )


def _rows(anatomy: Anatomy, given: dict[str, Any]) -> tuple[Float[Tensor, "rows batch seq d_model"], Watch]:
    ids = given["input_ids"]
    count = anatomy.num_blocks + 1
    kept = torch.empty(count, *ids.shape, anatomy.d_model, dtype=anatomy.stream_dtype, device=ids.device)
    return kept, watch_rows(anatomy.blocks, range(count), None, kept)
