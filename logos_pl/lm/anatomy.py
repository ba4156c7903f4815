"""Finds the blocks and the head of a causal language model by tracing a forward pass on a few tokens.

Families differ in names (``model.layers``, ``transformer.h``, ``final_layer_norm``, ``project_out``) and in how they
scale the logits; nothing here depends on the family. The blocks are the module list whose length the configuration
gives; the path from the last block to the logits is followed tensor by tensor; constants are those of the configuration
that reproduce the model's logits bitwise. ``verify`` then checks the result on other inputs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from logos_pl.lm.finite import refuse_nonfinite
from logos_pl.lm.next_norms import next_norms
from logos_pl.lm.norms import is_norm
from logos_pl.lm.probing import last_call, probe_ids, run_traced, unsupported
from logos_pl.lm.trace import Call, arrives, same_bits

MULTIPLIERS = ("logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier", "logits_multiplier")
DIVISORS = ("logits_scaling", "logits_divisor")
SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap", "final_logit_softcap")


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
        lm_head: The unembedding, with its bias if it has one.
        logit_multiplier: Factor of the logits; 1 if there is none.
        logit_divisor: Divisor of the logits; 1 if there is none.
        softcap: ``cap`` of ``cap · tanh(z / cap)``, or None.
        next_norms: For each row 0 … n−1 the norm that reads it next; None if this is not defined for the family.
        stream_dtype: Number format that holds every row without loss: the weights' own, but for families that keep
            the residual stream in fp32 (Mamba).
    """

    architecture: str
    family: str
    body: nn.Module
    blocks: list[nn.Module]
    final_norm: nn.Module | None
    project: nn.Linear | None
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
    final_norm, project = _tail(name, blocks[-1], head, calls)
    z = last_call(calls, head).wrote
    multiplier, divisor, softcap = _constants(name, model, z, logits)
    return Anatomy(
        architecture=name,
        family=str(model.config.model_type),
        body=body,
        blocks=blocks,
        final_norm=final_norm,
        project=project,
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
    logits = anatomy.lm_head(x.to(anatomy.lm_head.weight.dtype))
    return scale_and_cap(logits, anatomy.logit_multiplier, anatomy.logit_divisor, anatomy.softcap)


def scale_and_cap(
    logits: Float[Tensor, "*lead vocab"], multiplier: float, divisor: float, softcap: float | None
) -> Float[Tensor, "*lead vocab"]:
    """Logits after multiplier, divisor and soft-cap, in the order and dtype used by the models."""
    # A factor of 1 changes no bit, but would cost a copy of the logits.
    z = logits if multiplier == 1.0 else logits * multiplier
    z = z if divisor == 1.0 else z / divisor
    return z if softcap is None else torch.tanh(z / softcap) * softcap


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
        InputError: It has none that runs without the head.
    """
    if model.base_model is not model:
        return model.base_model
    # Llama-4 names a body that its text model does not have; the model inside is the one that holds the blocks.
    inside = [child for child in model.children() if isinstance(child, PreTrainedModel)]
    if len(inside) != 1:
        raise unsupported(type(model).__name__, "it has no body that runs without the head")
    return inside[0]


def block_lists(model: PreTrainedModel, body: nn.Module) -> Iterator[list[nn.Module]]:
    """Module lists of the body as long as the text configuration says, outermost only.

    Raises:
        InputError: There is none.
    """
    name = type(model).__name__
    wanted = getattr(model.config.get_text_config(decoder=True), "num_hidden_layers", None)
    if not isinstance(wanted, int) or wanted < 1:
        raise unsupported(name, "its configuration does not say how many blocks it has (num_hidden_layers)")
    found: list[str] = []
    for path, module in body.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) == wanted and not inside:
            found.append(path)
            yield list(module)
    if not found:
        raise unsupported(name, f"no module list of it has {wanted} blocks, as its configuration says")


def _watched(model: PreTrainedModel, lists: list[list[nn.Module]]) -> list[nn.Module]:
    """Blocks, norms, and all modules outside the blocks; of the many inside them only the norms matter."""
    blocks = [block for group in lists for block in group]
    inside = {id(part) for block in blocks for part in block.modules()}
    above = {id(module) for module in model.modules() if any(part is blocks[0] for part in module.modules())}
    outside = [m for m in model.modules() if id(m) not in inside | above]
    norms = [m for m in model.modules() if id(m) in inside and is_norm(m)]
    head = model.get_output_embeddings()
    return [*blocks, *norms, *(m for m in outside if m is not head)]


def _called_blocks(
    name: str, model: PreTrainedModel, lists: list[list[nn.Module]], calls: list[Call]
) -> list[nn.Module]:
    called = {id(call.module) for call in calls}
    groups = [group for group in lists if all(id(block) in called for block in group)]
    if len(groups) != 1:
        raise unsupported(name, f"{len(groups)} of its module lists run as a stack of blocks where one is wanted")
    return groups[0]


def _tail(
    name: str, last_block: nn.Module, head: nn.Linear, calls: list[Call]
) -> tuple[nn.Module | None, nn.Linear | None]:
    """Final norm and projection: the modules that carry row n to the output layer."""
    start = max(index for index, call in enumerate(calls) if call.module is last_block)
    stream, wanted = calls[start].wrote, last_call(calls, head).read
    chain: list[nn.Module] = []
    for call in calls[start + 1 :]:
        if arrives(stream, wanted):
            break
        # Modules that change nothing (dropout in evaluation mode) are not part of the head.
        if same_bits(call.read, stream) and not same_bits(call.wrote, call.read):
            chain.append(call.module)
            stream = call.wrote
    if not arrives(stream, wanted):
        reason = "what its output layer reads is not the last block's output after norm and projection"
        raise unsupported(name, reason, head.weight.dtype)
    norm = chain.pop(0) if chain and is_norm(chain[0]) else None
    project = chain.pop(0) if chain else None
    if chain or not (project is None or isinstance(project, nn.Linear)):
        names = ", ".join(type(part).__name__ for part in [project, *chain])
        raise unsupported(name, f"between final norm and output layer stands what is not one linear layer ({names})")
    return norm, project


def _constants(name: str, model: PreTrainedModel, z: Tensor, logits: Tensor) -> tuple[float, float, float | None]:
    """Multiplier, divisor and soft-cap among the configuration's numbers that give the model's logits bitwise."""
    config = model.config.get_text_config(decoder=True)
    multipliers = _declared(config, MULTIPLIERS)
    divisors = _declared(config, DIVISORS)
    caps = [*_declared(config, SOFTCAPS), None]
    # Declared constants come first: small logits may look the same with and without a soft-cap.
    scales = [*((m, 1.0) for m in multipliers), *((1.0, d) for d in divisors), (1.0, 1.0)]
    for (multiplier, divisor), cap in product(scales, caps):
        if same_bits(scale_and_cap(z, multiplier, divisor, cap), logits):
            return multiplier, divisor, cap
    reason = "its logits are not the output layer's after a multiplier and soft-cap of its configuration"
    raise unsupported(name, reason, z.dtype)


def _stream_dtype(blocks: list[nn.Module], calls: list[Call]) -> torch.dtype:
    """The narrowest number format that holds what every block reads and writes."""
    own = [last_call(calls, block) for block in blocks]
    return reduce(torch.promote_types, (tensor.dtype for call in own for tensor in (call.read, call.wrote)))


def _declared(config: object, names: tuple[str, ...]) -> list[float]:
    values = (getattr(config, name, None) for name in names)
    return [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and v != 0]
