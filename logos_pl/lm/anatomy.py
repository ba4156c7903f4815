"""Finds the blocks and the head of a causal language model by tracing a forward pass on a few tokens.

Families differ in names (``model.layers``, ``transformer.h``, ``final_layer_norm``, ``project_out``) and in how they
scale the logits; nothing here depends on the family. The blocks are the module list whose length the configuration
gives; the path from the last block to the logits is followed tensor by tensor; the constants are the numbers of the
configuration that reproduce the model's logits bitwise. ``verify`` then checks the result on other inputs.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import takewhile

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from logos_pl.lm.finite import refuse_nonfinite
from logos_pl.lm.head_path import check_one_stream, find_constants, find_path, scale_and_cap
from logos_pl.lm.next_norms import next_norms
from logos_pl.lm.norms import is_norm
from logos_pl.lm.probing import last_call, probe_ids, run_traced, unsupported
from logos_pl.lm.trace import Call


@dataclass(frozen=True)
class Anatomy:
    """Parts of a causal language model that lenses use; modules are the model's own, not copies.

    Attributes:
        architecture: Class name of the model, for messages.
        family: ``model_type`` of the configuration.
        body: The model without its head; running it never builds logits.
        blocks: The transformer blocks in order; row L is what ``blocks[L - 1]`` returns.
        final_norm: First module that reads row n, or None if the model has no final norm.
        project: Linear map between final norm and head (OPT's ``project_out``), or None.
        head_divisor: Divisor of the input of ``lm_head``; 1 if there is none.
        lm_head: The unembedding, with its bias if it has one.
        logit_multiplier: Factor of the logits; 1 if there is none.
        logit_divisor: Divisor of the logits; 1 if there is none.
        softcap: ``cap`` of ``cap · tanh(z / cap)``, or None.
        next_norms: For each row 0 … n−1 the norm that reads it next; None if this is not defined for the family.
        stream_dtype: Number format that holds every row without loss: the weights' own, except for families that keep
            the residual stream in fp32 (Mamba).
    """

    architecture: str
    family: str
    body: nn.Module
    blocks: list[nn.Module]
    final_norm: nn.Module | None
    project: nn.Linear | None
    head_divisor: float
    lm_head: nn.Linear
    logit_multiplier: float
    logit_divisor: float
    softcap: float | None
    next_norms: list[nn.Module] | None
    stream_dtype: torch.dtype

    @property
    def num_blocks(self) -> int:
        """Number n of transformer blocks; there are n + 1 rows."""
        return len(self.blocks)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return (self.lm_head if self.project is None else self.project).in_features

    @property
    def vocab_size(self) -> int:
        """Number of logits, padding of the embedding included."""
        return self.lm_head.out_features


def find_parts(model: PreTrainedModel) -> Anatomy:
    """Find the anatomy of a causal language model by one forward pass on eight tokens.

    Raises:
        InputError: A part cannot be found; the message names the part and the architecture.
    """
    name = type(model).__name__
    head = _output_layer(model)
    body = find_body(model)
    lists = list(block_lists(model, body))
    calls, logits = run_traced(model, probe_ids(model), [*_watched(model, lists), head])
    blocks = _called_blocks(name, model, lists, calls)
    refuse_nonfinite(model, blocks, calls, logits)
    if not any(call.module is head for call in calls):
        raise unsupported(name, "its output layer is not called in a plain forward")
    check_one_stream(name, blocks[-1], calls)
    path = find_path(model, blocks[-1], head, calls)
    multiplier, divisor, softcap = find_constants(name, model, last_call(calls, head).wrote, logits)
    return Anatomy(
        architecture=name,
        family=str(model.config.model_type),
        body=body,
        blocks=blocks,
        final_norm=path.final_norm,
        project=path.project,
        head_divisor=path.divisor,
        lm_head=head,
        logit_multiplier=multiplier,
        logit_divisor=divisor,
        softcap=softcap,
        next_norms=next_norms(blocks, calls),
        stream_dtype=_stream_dtype(blocks, calls),
    )


@torch.no_grad()
def exact_logits(anatomy: Anatomy, h: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead vocab"]:
    """The head applied by the model's own modules in the model's dtype; at row n, bitwise the model's own logits."""
    x = h if anatomy.final_norm is None else anatomy.final_norm(h)
    if anatomy.project is not None:
        x = anatomy.project(x.to(anatomy.project.weight.dtype))
    x = x if anatomy.head_divisor == 1.0 else x / anatomy.head_divisor
    logits = anatomy.lm_head(x.to(anatomy.lm_head.weight.dtype))
    return scale_and_cap(logits, anatomy.logit_multiplier, anatomy.logit_divisor, anatomy.softcap)


def _output_layer(model: PreTrainedModel) -> nn.Linear:
    name = type(model).__name__
    if getattr(model.config, "is_encoder_decoder", False):
        raise unsupported(name, "it is an encoder-decoder model; use a decoder-only causal language model")
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear):
        kind = "none" if head is None else type(head).__name__
        raise unsupported(name, f"its output layer must be one linear layer ({kind} was found)")
    if not head.weight.is_floating_point():
        raise unsupported(name, f"its output layer is quantised ({head.weight.dtype}); load unquantised weights")
    return head


def find_body(model: PreTrainedModel) -> nn.Module:
    """The model without its head.

    Raises:
        InputError: It has no body that runs without the head.
    """
    if model.base_model is not model:
        return model.base_model
    # Llama-4 names a body that its text model does not have; the inner model is the one that holds the blocks.
    inside = [child for child in model.children() if isinstance(child, PreTrainedModel)]
    if len(inside) != 1:
        raise unsupported(type(model).__name__, "it has no body that runs without the head")
    return inside[0]


def block_lists(model: PreTrainedModel, body: nn.Module) -> Iterator[list[nn.Module]]:
    """Outermost module lists of the body with as many entries as the text configuration has blocks.

    Those of an image or audio encoder, which may be as long, are left out: they do not share a parent with the token
    embedding.

    Raises:
        InputError: There is none.
    """
    name = type(model).__name__
    wanted = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", None)
    if not isinstance(wanted, int) or wanted < 1:
        raise unsupported(name, "its configuration does not say how many blocks it has (num_hidden_layers)")
    lists: dict[str, list[nn.Module]] = {}
    for path, module in body.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer in lists)
        if isinstance(module, nn.ModuleList) and len(module) == wanted and not inside:
            lists[path] = list(module)
    if not lists:
        longest = max((len(part) for part in body.modules() if isinstance(part, nn.ModuleList)), default=0)
        reason = f"no module list of it has {wanted} blocks, as its configuration says, and the longest has {longest}"
        raise unsupported(name, f"{reason} (for example, because a module holds several layers)")
    embedding = model.get_input_embeddings()
    home = next((path for path, module in body.named_modules() if module is embedding), "")
    near = {path: len(_shared(path.split("."), home.split("."))) for path in lists}
    yield from (lists[path] for path in lists if near[path] == max(near.values()))


def _shared(path: list[str], other: list[str]) -> list[tuple[str, str]]:
    return list(takewhile(lambda names: names[0] == names[1], zip(path, other, strict=False)))


def _watched(model: PreTrainedModel, lists: list[list[nn.Module]]) -> list[nn.Module]:
    """Blocks, norms, and all modules outside the blocks; inside the blocks, only the norms matter."""
    blocks = [block for group in lists for block in group]
    inside = {id(part) for block in blocks for part in block.modules()}
    above = {id(module) for module in model.modules() if any(part is blocks[0] for part in module.modules())}
    outside = [m for m in model.modules() if id(m) not in inside | above]
    norms = [m for m in model.modules() if id(m) in inside and is_norm(m)]
    head = model.get_output_embeddings()
    watched = [*blocks, *norms, *(m for m in outside if m is not head)]
    return list({id(module): module for module in watched}.values())  # XLM has lists of norms


def _called_blocks(
    name: str, model: PreTrainedModel, lists: list[list[nn.Module]], calls: list[Call]
) -> list[nn.Module]:
    called = Counter(id(call.module) for call in calls)
    groups = [group for group in lists if all(id(block) in called for block in group)]
    if any(called[id(block)] > 1 for group in groups for block in group):
        raise unsupported(name, "its blocks run several times in one pass, so that a row has no single depth")
    if not groups:
        raise unsupported(name, "not all of its blocks run on token ids alone (for example, some attend to images)")
    if len(groups) != 1:
        raise unsupported(
            name, f"{len(groups)} of its module lists run as a stack of blocks, but exactly one is expected"
        )
    return groups[0]


def _stream_dtype(blocks: list[nn.Module], calls: list[Call]) -> torch.dtype:
    """The narrowest number format that holds what every block reads and writes."""
    own = [last_call(calls, block) for block in blocks]
    return reduce(torch.promote_types, (tensor.dtype for call in own for tensor in (call.read, call.wrote)))
