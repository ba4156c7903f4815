"""Outputs of each block's attention and MLP, found by checking that they sum to what the block adds to the stream.

The search does not depend on the model family: it takes the two submodules of a block whose outputs, times the residual
multiplier if there is one, added to its input, give the block's output bitwise. If a block normalises its branches
(Gemma-2, OLMo-2), the branch is the output of that norm; for a mixture of experts it is the mixture. A block that
normalises the stream itself (OPT-350m) has no branches and is refused.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from logos_pl.errors import InputError
from logos_pl.lm.anatomy import Anatomy
from logos_pl.lm.hooks import Take, Watch
from logos_pl.lm.probing import last_call, probe_ids, run_traced
from logos_pl.lm.trace import Call, same_bits

DEPTHS = (1, 2)
"""Depth below the block at which branches are searched. BLOOM's attention and MLP add the stream themselves, so that
their branches are linear layers inside them."""


class Branches(NamedTuple):
    """The two submodules of a block whose outputs sum to what it adds to the residual stream.

    Attributes:
        attention: The one that runs first; the norm after the attention if there is one.
        mlp: The one that runs second; the norm after the MLP if there is one.
        multiplier: Factor of both outputs; 1 if there is none.
    """

    attention: nn.Module
    mlp: nn.Module
    multiplier: float


def find_branches(model: PreTrainedModel, anatomy: Anatomy) -> list[Branches]:
    """Find the branches of every block, in order, by a forward pass on a few tokens.

    Raises:
        InputError: A block has no such branches; the message names the architecture and the block.
    """
    multiplier = float(getattr(model.config.get_text_config(decoder=True), "residual_multiplier", 1.0))
    found: list[Branches | None] = []
    for depth in DEPTHS:
        parts = [_parts(block, depth) for block in anatomy.blocks]
        watched = [*anatomy.blocks, *(part for inside in parts for part in inside)]
        calls, _ = run_traced(model, probe_ids(model, offset=2), watched)
        found = [
            _branches(last_call(calls, block), _called_once(inside, calls), multiplier)
            for block, inside in zip(anatomy.blocks, parts, strict=True)
        ]
        if None not in found:
            return [branches for branches in found if branches is not None]
    raise InputError(
        f"Direct logit attribution does not support {anatomy.architecture}: the output of block "
        f"{found.index(None) + 1} is not the sum of its input and the outputs of two of its submodules (for "
        "example, in blocks that normalise the stream itself); sweep without `attribution`."
    )


def watch_branches(
    branches: Sequence[Branches], kept: Float[Tensor, "blocks 2 pos d_model"], places: Int[Tensor, " pos"]
) -> Watch:
    """Copies what a forward's branches add to the stream at some positions.

    Args:
        branches: Branches of every block.
        kept: Destination, by block and by attention and MLP, in the stream's dtype.
        places: Positions in the flattened batch [batch · seq], on the model's device.
    """
    writes = []
    for (attention, mlp, multiplier), (from_attention, from_mlp) in zip(branches, kept, strict=True):
        writes += [
            (attention, _copier(from_attention, places, multiplier)),
            (mlp, _copier(from_mlp, places, multiplier)),
        ]
    return Watch(writes=writes)


def _copier(kept: Float[Tensor, "pos d_model"], places: Int[Tensor, " pos"], multiplier: float) -> Take:
    def copy(wrote: Tensor | None) -> None:
        assert wrote is not None, "the search found a tensor"
        # Flattened, as OPT's MLP output is. Multiplied in the model's dtype, with the model's rounding.
        kept.copy_(wrote.reshape(-1, kept.shape[-1])[places] * multiplier)

    return copy


def _parts(block: nn.Module, depth: int) -> list[nn.Module]:
    return [part for path, part in block.named_modules() if path and path.count(".") < depth]


def _called_once(parts: list[nn.Module], calls: list[Call]) -> list[Call]:
    """Calls of the submodules in order, without submodules that run twice (such as one dropout after both branches)."""
    ids = {id(part) for part in parts}
    own = [call for call in calls if id(call.module) in ids]
    return [call for call in own if sum(other.module is call.module for other in own) == 1]


def _branches(block: Call, parts: list[Call], multiplier: float) -> Branches | None:
    """The first two submodules, in order of execution, whose outputs lead from the block's input to its output."""
    h = block.read
    outputs = [(part.module, part.wrote.view_as(h) * multiplier) for part in parts if part.wrote.numel() == h.numel()]
    for (first, a), (second, b) in combinations(outputs, 2):
        # Sequentially or, if both read the same input, as one sum: the roundings differ.
        if any(same_bits(h_out, block.wrote) for h_out in ((h + a) + b, h + (a + b))):
            return Branches(first, second, multiplier)
    return None
