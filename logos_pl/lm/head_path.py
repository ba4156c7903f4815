"""The path from row n to the logits: modules found by what they read and write, constants by matching bits.

``exact_logits`` of ``anatomy`` follows this path with the model's own modules.
"""

from itertools import product, takewhile
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from logos_pl.errors import InputError
from logos_pl.lm.norms import is_norm
from logos_pl.lm.probing import PROBE_TOKENS, last_call, unsupported
from logos_pl.lm.trace import Call, arrives, same_bits

MULTIPLIERS = ("logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier", "logits_multiplier")
DIVISORS = ("logits_scaling", "logits_divisor")
HEAD_DIVISORS = ("logits_scaling", "logits_mup_width_multiplier")
SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap", "final_logit_softcap")


class HeadPath(NamedTuple):
    """The modules between row n and the output layer.

    Attributes:
        final_norm: First module that reads row n, or None if the model has no final norm.
        project: Linear map between final norm and head (OPT's ``project_out``), or None.
        divisor: Divisor of the output layer's input; 1 if there is none.
    """

    final_norm: nn.Module | None
    project: nn.Linear | None
    divisor: float


def check_one_stream(name: str, last_block: nn.Module, calls: list[Call]) -> None:
    """Make sure that blocks pass on one vector per token.

    Raises:
        InputError: They pass on several, which are combined after the last block (hyper-connections, AltUp), or vectors
            of tokens that are not in the text (CPM-Ant's prompt).
    """
    shape = last_call(calls, last_block).wrote.shape
    if len(shape) == 4:
        streams = shape.numel() // (2 * PROBE_TOKENS * shape[-1])
        reason = f"its blocks pass on {streams} residual streams of each token, of which its head reads a mixture"
        raise unsupported(name, f"{reason}, so that a row is not one vector")
    if shape[:2] != (2, PROBE_TOKENS):
        reason = f"its blocks pass on {list(shape)} numbers for 2 sequences of {PROBE_TOKENS} tokens"
        raise unsupported(name, f"{reason}, so that a row is not one vector per token")


def find_path(model: PreTrainedModel, last_block: nn.Module, head: nn.Linear, calls: list[Call]) -> HeadPath:
    """Find the modules that carry row n to the output layer.

    Raises:
        InputError: There are modules other than a norm and a linear map.
    """
    name = type(model).__name__
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
    divisor = 1.0 if arrives(stream, wanted) else _divisor(model, stream, wanted)
    if divisor is None:
        raise _other_way(name, calls[start + 1 :], head)
    if divisor != 1.0 and head.bias is not None:
        raise unsupported(name, "its output layer has a scaled input and a bias, and no known head has both")
    norm = chain.pop(0) if chain and is_norm(chain[0]) else None
    project = chain.pop(0) if chain else None
    if chain or not (project is None or isinstance(project, nn.Linear)):
        names = ", ".join(type(part).__name__ for part in [project, *chain])
        raise unsupported(
            name, f"something other than one linear layer stands between final norm and output layer ({names})"
        )
    return HeadPath(norm, project, divisor)


def find_constants(name: str, model: PreTrainedModel, z: Tensor, logits: Tensor) -> tuple[float, float, float | None]:
    """Multiplier, divisor and soft-cap among the configuration's numbers that give the model's logits bitwise.

    Args:
        name: Name of the architecture, for messages.
        model: The model.
        z: Outputs of its output layer.
        logits: Its logits.

    Raises:
        InputError: No combination does.
    """
    dropped = z.shape[-1] - logits.shape[-1]
    if dropped > 0:
        raise unsupported(name, f"it leaves out {dropped} of the {z.shape[-1]} logits of its output layer")
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


def scale_and_cap(
    logits: Float[Tensor, "*lead vocab"], multiplier: float, divisor: float, softcap: float | None
) -> Float[Tensor, "*lead vocab"]:
    """Logits after multiplier, divisor and soft-cap, in the order and dtype used by the models."""
    # A factor of 1 changes no bit, but would cost a copy of the logits.
    z = logits if multiplier == 1.0 else logits * multiplier
    z = z if divisor == 1.0 else z / divisor
    return z if softcap is None else torch.tanh(z / softcap) * softcap


def _divisor(model: PreTrainedModel, stream: Tensor, wanted: Tensor) -> float | None:
    """The divisor of ``stream`` that gives ``wanted`` bitwise, or None.

    One from the configuration (MiniCPM3, Inkling), else a measured one: the one with the fewest digits.
    """
    if stream.shape != wanted.shape:
        return None
    there = wanted != 0
    ratio = float((stream[there].double() / wanted[there].double()).median()) if bool(there.any()) else 0.0
    stated = _declared(model.config.get_text_config(decoder=True), HEAD_DIVISORS)
    measured = dict.fromkeys(float(f"{ratio:.{digits}g}") for digits in range(1, 8))
    return next((c for c in (*stated, *measured) if c > 0 and arrives(stream / c, wanted)), None)


def _other_way(name: str, calls: list[Call], head: nn.Linear) -> InputError:
    """Error for an output layer that does not read row n; names the modules that run after the last block."""
    between = takewhile(lambda call: call.module is not head, calls)
    parts = [c.module for c in between if next(c.module.children(), None) is None and not same_bits(c.read, c.wrote)]
    names = ", ".join(dict.fromkeys(type(part).__name__ for part in parts))
    reason = "the input of its output layer is not the last block's output after norm and projection"
    if len(parts) > 1:  # more than rounding
        return unsupported(name, f"{reason} (in between run {names})")
    return unsupported(name, reason, head.weight.dtype)


def _declared(config: object, names: tuple[str, ...]) -> list[float]:
    values = (getattr(config, name, None) for name in names)
    return [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and v != 0]
