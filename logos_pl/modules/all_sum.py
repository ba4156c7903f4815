"""Sums over processes."""

import torch
from lightning.pytorch import Trainer
from torch import Tensor


def all_sum(trainer: Trainer, tensor: Tensor) -> Tensor:
    """Sum a tensor over processes, on the CPU; matrix by matrix, to fit in memory next to the model."""
    if trainer.world_size == 1:
        return tensor
    parts = tensor.unbind() if tensor.ndim == 3 else [tensor]
    device = trainer.strategy.root_device
    summed = [trainer.strategy.reduce(part.to(device), reduce_op="sum").cpu() for part in parts]
    return torch.stack(summed) if tensor.ndim == 3 else summed[0]
