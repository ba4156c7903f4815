"""AdamW and its learning rate along a fit."""

from collections.abc import Callable, Iterable

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn

from logos_pl.functional.budget import lr_factor, warmup_factor, warmup_steps
from logos_pl.settings.lens import OptimSettings


def optimizer_of(
    parameters: Iterable[nn.Parameter], settings: OptimSettings, total_steps: int
) -> OptimizerLRSchedulerConfig:
    """AdamW with a linear warm-up over the first tenth of the steps, then as ``anneal`` says.

    Weight decay applies to U and V only; biases and temperatures are exempt.

    Args:
        parameters: Parameters of the lenses; frozen ones are skipped.
        settings: Options with every `auto` resolved.
        total_steps: Optimiser steps of the fit.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [part for part in trained if part.ndim == 3], "weight_decay": settings.weight_decay},  # U and V
        {"params": [part for part in trained if part.ndim < 3], "weight_decay": 0.0},  # c and log τ
    ]
    optimizer = torch.optim.AdamW(groups, lr=float(settings.lr), betas=settings.betas, fused=True)
    warmup = warmup_steps(total_steps)
    courses: dict[str, Callable[[int], float]] = {
        "average": lambda step: warmup_factor(step, warmup),
        "cosine": lambda step: lr_factor(step, total_steps, warmup),
    }
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, courses[settings.anneal])
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
