"""A model without the matrices of its blocks, loaded by transformers, and a function to read them block by block."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.utils import logging

from logos_pl.errors import InputError
from logos_pl.lm.anatomy import block_lists, find_body
from logos_pl.lm.block_weights import BlockPlan, Read, plan_blocks
from logos_pl.lm.config import auto_class
from logos_pl.lm.foreign import blaming
from logos_pl.lm.loading import check_complete, checked_model, read_generation_config, weight_files
from logos_pl.lm.quiet import quiet
from logos_pl.lm.sources import ModelSource
from logos_pl.lm.stored_tensors import StoredTensor, stored_tensors


class HollowModel(NamedTuple):
    """A model whose blocks have no matrices yet; everything else is as an ordinary load gives it.

    Attributes:
        model: The model.
        blocks: Its blocks.
        plan: Which tensors of the files belong to the matrices of each block.
        read: Reads some of these tensors into the model.
    """

    model: PreTrainedModel
    blocks: list[nn.Module]
    plan: BlockPlan
    read: Read


def read_hollow_model(
    source: ModelSource, config: PreTrainedConfig, dtype: torch.dtype, device: torch.device, pinned: bool = False
) -> HollowModel:
    """Load a model onto its device without the matrices of its blocks.

    Args:
        source: Where the model is.
        config: Its configuration.
        dtype: Its number format.
        device: Where it runs.
        pinned: Whether blocks will be read into page-locked memory.

    Raises:
        InputError: Weights are missing, damaged, incomplete, quantised, not in safetensors, or those of another model.
        RunError: Memory is short, or the disk refuses.
    """
    name = source.model_id
    files = weight_files(source, config)
    if getattr(config, "quantization_config", None) is not None:
        raise InputError(
            f"{name} has quantised weights, which are neither streamed nor sharded: use weights without "
            "quantisation, or give --model.placement resident."
        )
    stored = stored_tensors(source.folder, files, name, pinned=pinned)
    shown = files[0] if len(files) == 1 else f"{files[0]} … {files[-1]}"
    blame = partial(blaming, f"{name} cannot be loaded from config.json and {shown}", "fetch the model again", name)
    generation = read_generation_config(source)
    with quiet(), blame():
        hollow = _Hollow(stored)
        model, info = hollow.load(source, config, dtype, generation)
    checked_model(name, model, info)
    logging.disable_progress_bar()  # permanently: blocks are read in the background, each with a bar
    for parameter in model.parameters():
        if not parameter.is_meta:
            parameter.data = parameter.data.to(device)
    for module in model.modules():
        for key, table in module.named_buffers(recurse=False):
            module._buffers[key] = table.to(device)

    def read(tensors: Mapping[str, StoredTensor], targets: Sequence[str]) -> None:
        with blame():
            found, _ = convert_and_load_state_dict_in_model(model, dict(tensors), hollow.config)
        check_complete(name, {**found.to_dict(), "missing_keys": set(targets) & found.missing_keys})

    return HollowModel(model, hollow.blocks, hollow.plan, read)


class _Hollow:
    """Loads all but the matrices of the blocks, and plans how those are read."""

    plan: BlockPlan
    blocks: list[nn.Module]
    config: Any
    """transformers' record of how weights are converted; one for all blocks."""

    def __init__(self, stored: Mapping[str, StoredTensor]) -> None:
        self._stored = stored

    def load(
        self, source: ModelSource, config: PreTrainedConfig, dtype: torch.dtype, generation: GenerationConfig | None
    ) -> tuple[PreTrainedModel, dict[str, Any]]:
        """The model and transformers' report of what was missing."""
        with torch.device("meta"):
            described = auto_class(config).from_config(config, trust_remote_code=False)
        family: Any = type(described)
        hollow = self

        # The two steps of `from_pretrained` that read weights, and fill in what was not read.
        class Hollow(family):
            @staticmethod
            def _load_pretrained_model(
                model: Any, state_dict: Any, checkpoint_files: Any, load_config: Any, expected_keys: Any = None
            ) -> Any:
                hollow._plan(model, load_config)
                return convert_and_load_state_dict_in_model(model, hollow.plan.resident, load_config)

            @staticmethod
            def _finalize_model_loading(model: Any, load_config: Any, loading_info: Any) -> Any:
                for key in (key for targets in hollow.plan.targets for key in targets):
                    loading_info.missing_keys.discard(key)
                    model.get_parameter(key)._is_hf_initialized = True
                return family._finalize_model_loading(model, load_config, loading_info)

        Hollow.__name__, Hollow.__qualname__, Hollow.__module__ = (
            family.__name__, family.__qualname__, family.__module__
        )  # fmt: skip
        model, info = Hollow.from_pretrained(
            source.folder,
            config=described.config,
            dtype=dtype,
            generation_config=generation,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that one error message names them
        )
        model.__class__ = family
        return model, info

    def _plan(self, model: PreTrainedModel, load_config: Any) -> None:
        lists = list(block_lists(model, find_body(model)))
        self.blocks = max(lists, key=lambda group: sum(p.numel() for block in group for p in block.parameters()))
        self.plan = plan_blocks(model, self.blocks, self._stored, load_config)
        streamed = {name for targets in self.plan.targets for name in targets}
        shared = sorted(streamed & {*model.all_tied_weights_keys, *model.all_tied_weights_keys.values()})
        if shared:
            raise InputError(
                f"{type(model).__name__} cannot be streamed or sharded: its blocks share weights ({shared[0]} first); "
                "give --model.placement resident."
            )
        self.config = load_config
