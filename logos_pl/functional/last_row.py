"""The lens's last row against the model's own output."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from logos_pl.functional.blocks import spans
from logos_pl.functional.closest_temperature import closest_temperature, kl_at_bits

# Size of the fp64 logits searched for a temperature together: they stay in a CPU's cache.
_SLICE_BYTES = 2**20


class LastRow(NamedTuple):
    """How the lens's last row differs from the model's own output, per prompt. Source: docs/method.md §5.5.

    Attributes:
        kl_to_final_bits: KL(P_n ‖ P_model).
        top1_agree: Both put the same token first.
        temp_est: The temperature T in [0.1, 10] at which softmax(z_n / T) is closest to the model's.
        kl_after_temp_bits: The divergence at this temperature.
    """

    kl_to_final_bits: Float[Tensor, "pos"]
    top1_agree: Bool[Tensor, "pos"]
    temp_est: Float[Tensor, "pos"]
    kl_after_temp_bits: Float[Tensor, "pos"]


@torch.no_grad()
def last_row(logits: Float[Tensor, "pos vocab"], model_logits: Float[Tensor, "pos vocab"]) -> LastRow:
    """The last row's logits against the model's own, with the temperature that brings them closest.

    Source: docs/method.md §5.5; the search is ``closest_temperature``.
    """
    # MPS has no fp64: these few rows are moved to the CPU.
    device = torch.device("cpu") if logits.device.type == "mps" else logits.device
    kl, temperature, left = torch.empty(3, len(logits), dtype=torch.float64, device=device)
    agree = (logits.argmax(-1) == model_logits.argmax(-1)).to(device)
    pos_per_slice = max(1, _SLICE_BYTES // (8 * logits.shape[-1]))
    for pos in spans(len(logits), pos_per_slice):
        z, log_p = logits[pos].to(device).double(), torch.log_softmax(model_logits[pos].to(device).double(), -1)
        kl[pos] = kl_at_bits(z, log_p, torch.zeros_like(kl[pos]))
        temperature[pos], left[pos] = closest_temperature(z, log_p)
    return LastRow(kl, agree, temperature, left)
