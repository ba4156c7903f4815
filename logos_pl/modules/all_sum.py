"""Sums over the processes of a run."""

import torch
from lightning.pytorch import Trainer
from torch import Tensor


def all_sum(trainer: Trainer, tensor: Tensor) -> Tensor:
    """The sum over the processes, on the CPU; matrix by matrix, as all rows' would not fit beside the model."""
    if trainer.world_size == 1:
        return tensor
    parts = tensor.unbind() if tensor.ndim == 3 else [tensor]
    device = trainer.strategy.root_device
    summed = [trainer.strategy.reduce(part.to(device), reduce_op="sum").cpu() for part in parts]
    return torch.stack(summed) if tensor.ndim == 3 else summed[0]
