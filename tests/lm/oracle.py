"""The head of a family in float64, from weights found by name and constants from the family's table alone."""

import math

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tests.lm.families import Family

EPS_NAMES = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon")


def last_row(model: PreTrainedModel, family: Family, input_ids: Tensor) -> Tensor:
    """Row n, taken where the final norm (or what follows it) reads it."""
    path = family.final_norm or "model.decoder.project_out"
    kept: list[Tensor] = []
    handle = model.get_submodule(path).register_forward_pre_hook(lambda module, args: kept.append(args[0].clone()))
    model(input_ids=input_ids, use_cache=False)
    handle.remove()
    return kept[0]


def head_logits(model: PreTrainedModel, family: Family, h: Tensor) -> Tensor:
    x = h.double()
    if family.final_norm is not None:
        norm = model.get_submodule(family.final_norm)
        config = model.config.get_text_config(decoder=True)
        eps = next((getattr(config, name) for name in EPS_NAMES if hasattr(config, name)), 1e-5)
        if family.norm == "layer":
            x = x - x.mean(-1, keepdim=True)
        x = x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()
        if getattr(norm, "weight", None) is not None:
            x = x * (norm.weight.double() + (1.0 if family.one_plus_w else 0.0))
        if getattr(norm, "bias", None) is not None:
            x = x + norm.bias.double()
    if family.project:
        x = x @ model.get_submodule("model.decoder.project_out").weight.double().T
    x = x / family.head_divisor
    z = x @ model.lm_head.weight.double().T
    if family.head_bias:
        z = z + model.lm_head.bias.double()
    z = z * family.multiplier / family.divisor
    return z if family.softcap is None else family.softcap * torch.tanh(z / family.softcap)


def kl_bits(wanted: Tensor, got: Tensor) -> float:
    """Largest KL(P_wanted ‖ P_got) over positions, in bits."""
    log_p, log_q = (torch.log_softmax(z.double(), dim=-1) for z in (wanted, got))
    return float((log_p.exp() * (log_p - log_q)).sum(-1).max()) / math.log(2)
