"""What each block adds to the residual stream: the outputs of its attention and of its MLP, found by what adds up.

Nothing goes by family: of a block's parts, the two are taken whose outputs, times the residual multiplier where the
configuration has one, give the block's output bitwise when they are added to its input. So the branch of a block that
normalises its branches (Gemma-2, OLMo-2) is what comes out of that norm, and that of a mixture of experts is the
mixture. A block that normalises the stream itself (OPT-350m) has no branches, and is refused.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import combinations
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from logos_pl.errors import InputError
from logos_pl.lm.anatomy import Anatomy
from logos_pl.lm.hooks import Take, gathering
from logos_pl.lm.probing import last_call, probe_ids, run_traced
from logos_pl.lm.trace import Call, same_bits

DEPTHS = (1, 2)
"""How far below the block a branch is looked for. BLOOM's attention and MLP add the stream themselves, so that the
branches are linear layers inside them."""


class Branches(NamedTuple):
    """The two parts of a block whose outputs are all that it adds to the residual stream.

    Attributes:
        attention: The one that runs first, which is the norm behind the attention where there is one.
        mlp: The one that runs second, likewise.
        multiplier: What both outputs are multiplied by; 1 where there is nothing.
    """

    attention: nn.Module
    mlp: nn.Module
    multiplier: float


def find_branches(model: PreTrainedModel, anatomy: Anatomy) -> list[Branches]:
    """The branches of every block in order, as they add up bitwise on a few tokens.

    Raises:
        InputError: A block cannot be taken apart; the message names the architecture and the block.
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
        f"The logits of {anatomy.architecture} cannot be decomposed: block {found.index(None) + 1} does not write the "
        "sum of what it has read and the outputs of two of its parts (one that normalises the stream itself does not); "
        "sweep without `attribution`."
    )


def keeping_branches(
    branches: Sequence[Branches], kept: Float[Tensor, "blocks 2 pos d_model"], places: Int[Tensor, " pos"]
) -> AbstractContextManager[None]:
    """Copies, for the time of a ``with``, what a forward's branches add to the stream at some positions.

    Args:
        branches: Those of every block.
        kept: Where it goes: by block, attention and MLP, in the stream's dtype.
        places: Positions in the flattened batch [batch · seq], on the model's device.
    """
    writes = []
    for (attention, mlp, multiplier), (from_attention, from_mlp) in zip(branches, kept, strict=True):
        writes += [
            (attention, _copier(from_attention, places, multiplier)),
            (mlp, _copier(from_mlp, places, multiplier)),
        ]
    return gathering(writes=writes)


def _copier(kept: Float[Tensor, "pos d_model"], places: Int[Tensor, " pos"], multiplier: float) -> Take:
    def copy(wrote: Tensor | None) -> None:
        assert wrote is not None, "the search has seen a tensor"
        # Flat, as OPT's MLP writes it. Multiplied in the model's dtype, rounding included, as the model does.
        kept.copy_(wrote.reshape(-1, kept.shape[-1])[places] * multiplier)

    return copy


def _parts(block: nn.Module, depth: int) -> list[nn.Module]:
    return [part for path, part in block.named_modules() if path and path.count(".") < depth]


def _called_once(parts: list[nn.Module], calls: list[Call]) -> list[Call]:
    """The calls of the parts in order, without those of parts that run twice (one dropout behind both branches)."""
    ids = {id(part) for part in parts}
    own = [call for call in calls if id(call.module) in ids]
    return [call for call in own if sum(other.module is call.module for other in own) == 1]


def _branches(block: Call, parts: list[Call], multiplier: float) -> Branches | None:
    """The first two parts, in the order in which they ran, that lead from what the block read to what it wrote."""
    h = block.read
    outputs = [(part.module, part.wrote.view_as(h) * multiplier) for part in parts if part.wrote.numel() == h.numel()]
    for (first, a), (second, b) in combinations(outputs, 2):
        # One after the other, or (where both read the same) their sum at once: the roundings differ.
        if any(same_bits(h_out, block.wrote) for h_out in ((h + a) + b, h + (a + b))):
            return Branches(first, second, multiplier)
    return None
