"""Sizes of a model from its configuration, counted on the meta device: no weight is read or made."""

import torch
from torch import nn
from transformers import PreTrainedConfig

from logos_pl.errors import InputError
from logos_pl.lm.config import auto_class, read_config
from logos_pl.lm.foreign import blaming
from logos_pl.lm.memory import GIB, ModelShape, gib
from logos_pl.lm.quiet import quiet
from logos_pl.lm.sources import locate
from logos_pl.lm.weight_formats import WeightFormat

MAX_TABLE_BYTES = 4 * GIB
"""Maximum size in bytes of a model's buffers, such as masks, beyond four bytes per parameter."""


def shape_of(config: PreTrainedConfig) -> ModelShape:
    """A model's sizes from its configuration, counted on the meta device: no weight is read or made.

    Raises:
        InputError: transformers cannot build a model from it, or its tables would fill the memory.
    """
    name = config.name_or_path or str(config.model_type)
    remedy = "fetch the model again"
    with torch.device("meta"), quiet(), blaming(f"config.json of {name} is not valid", remedy, name, vars(config)):
        model = auto_class(config).from_config(config, trust_remote_code=False)
        model.tie_weights()
        text = config.get_text_config(decoder=True)
        shape = ModelShape(
            family=str(config.model_type),
            num_parameters=sum(parameter.numel() for parameter in model.parameters()),
            num_blocks=text.num_hidden_layers,
            d_model=text.hidden_size,
            vocab_size=text.vocab_size,
            **_counted_by_block(model, text.num_hidden_layers),
        )
        tables = sum(buffer.numel() * buffer.itemsize for buffer in model.buffers())
    if tables > MAX_TABLE_BYTES + 4 * shape.num_parameters:
        raise InputError(
            f"config.json of {name} describes tables of {gib(tables)} in addition to {shape.num_parameters:,} "
            f"parameters, such as masks over all positions; {remedy}."
        )
    return shape


def _counted_by_block(model: nn.Module, num_blocks: int) -> dict[str, int]:
    """Parameters of the largest block and outside the blocks, if a module list has that many blocks."""
    lists = [list(part) for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == num_blocks]
    sizes = [[sum(p.numel() for p in block.parameters()) for block in blocks] for blocks in lists]
    if not sizes:
        return {}
    largest = max(sizes, key=sum)
    everything = sum(parameter.numel() for parameter in model.parameters())
    return {"largest_block": max(largest), "outside_blocks": max(0, everything - sum(largest))}


def model_shape(model_id: str, revision: str | None = None) -> ModelShape:
    """Sizes of a model, from its configuration alone.

    Raises:
        InputError: The model cannot be found, or is not a causal language model.
    """
    return shape_of(read_config(locate(model_id, revision)))


def shape_in_memory(config: PreTrainedConfig, stored: WeightFormat | None) -> ModelShape:
    """A model's sizes, including the bytes per weight in memory.

    Args:
        config: Its configuration.
        stored: Format of its weights; None for plain numbers.

    Raises:
        InputError: As for ``shape_of``.
    """
    return shape_of(config)._replace(block_bytes=None if stored is None else stored.block_bytes)
