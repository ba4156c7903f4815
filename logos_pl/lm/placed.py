"""Loads a model with its blocks in their placement: in memory, on disk, or sharded over processes."""

from typing import NamedTuple

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from logos_pl.lm.adapter_sources import find_adapter
from logos_pl.lm.adapters import Adapter, check_adapter, merge_adapter, refuse_adapter_on
from logos_pl.lm.block_weights import BlockWeights
from logos_pl.lm.devices import HOST_SHARE, Placement, free_memory
from logos_pl.lm.hollow import read_hollow_model
from logos_pl.lm.loaded_as import LoadedAs
from logos_pl.lm.loading import read_model
from logos_pl.lm.sharded import Sharing, read_sharded_model
from logos_pl.lm.sources import ModelSource, file_digest, model_commit
from logos_pl.lm.streamed import Group, StreamedBody
from logos_pl.lm.weight_formats import WeightFormat, format_of, refuse_placement


class WeightsPlan(NamedTuple):
    """The weights to read: plain, quantised, or with an adapter.

    Attributes:
        stored: Format of quantised weights; None for plain numbers.
        adapter: The adapter to merge; None if there is none.
    """

    stored: WeightFormat | None
    adapter: Adapter | None

    def words(self) -> str | None:
        """Description for messages; None for plain weights."""
        parts = [] if self.stored is None else [f"{self.stored.name} weights, {self.stored.in_memory}"]
        if self.adapter is not None:
            parts.append(f"the {self.adapter.type} adapter {self.adapter.source.adapter_id}, merged into the weights")
        return " and ".join(parts) or None


def plan_weights(source: ModelSource, config: PreTrainedConfig, adapter: str | None) -> WeightsPlan:
    """Determine which weights to read, and refuse unsupported ones, before any weight is read.

    Args:
        source: Where the model is.
        config: Its configuration.
        adapter: The adapter given by the user; None if there is none.

    Raises:
        InputError: A format is not supported, a package is missing, or the adapter cannot be used.
        RunError: The disk or the Hub fails.
    """
    stored = format_of(source, config)
    if adapter is None:
        return WeightsPlan(stored, None)
    found = check_adapter(find_adapter(adapter))
    refuse_adapter_on(source.model_id, found, None if stored is None else stored.name)
    return WeightsPlan(stored, found)


class Placed(NamedTuple):
    """A model whose blocks are in their placement.

    Attributes:
        model: The model.
        streamed: Its blocks one by one, if they are read from disk; else None.
        sharing: The processes that share its blocks, if it is sharded; else None.
    """

    model: PreTrainedModel
    streamed: StreamedBody | None = None
    sharing: Sharing | None = None


def place_model(
    source: ModelSource,
    config: PreTrainedConfig,
    dtype: torch.dtype,
    device: torch.device,
    placement: Placement,
    weights: WeightsPlan,
    group_tokens: int,
    nodes: int,
) -> Placed:
    """Read a model.

    Args:
        source: Where it is.
        config: Its configuration.
        dtype: Its number format.
        device: Where it runs.
        placement: Placement of its blocks.
        weights: The weights to read.
        group_tokens: Tokens of a streamed group.
        nodes: Machines that a sharded model's processes run on.

    Raises:
        InputError: Weights are missing, damaged, or do not allow this placement.
        RunError: Memory is short, or the disk fails.
    """
    refuse_placement(source.model_id, weights.words(), placement)
    if placement == "streamed":
        hollow = read_hollow_model(source, config, dtype, device, pinned=device.type == "cuda")
        blocks = BlockWeights(hollow.model, hollow.plan, hollow.read, device)
        group = Group(group_tokens, kept_bytes=free_memory(torch.device("cpu")) // HOST_SHARE)
        return Placed(hollow.model, StreamedBody(hollow.blocks, blocks, group, source.model_id))
    if placement == "sharded":
        sharing = Sharing(device, nodes)
        return Placed(read_sharded_model(source, config, dtype, device, sharing).model, None, sharing)
    model = read_model(source, config, dtype, weights.stored, device)
    if weights.adapter is not None:
        model = merge_adapter(model, weights.adapter, source.model_id)
    if (
        weights.stored is None or weights.stored.block_bytes is None
    ):  # others are on the device already, and must not be moved
        model.to(device)  # type: ignore[arg-type]
    return Placed(model)


def loaded_as(source: ModelSource, weights: WeightsPlan) -> LoadedAs | None:
    """The record of what was loaded; None for plain weights."""
    if weights.stored is None and weights.adapter is None:
        return None
    stored, adapter = weights.stored, weights.adapter
    return LoadedAs(
        format=None if stored is None else stored.name,
        in_memory=None if stored is None else stored.in_memory,
        repo_id=source.repo_id,
        file=None if source.gguf is None else source.gguf.name,
        sha256=None if source.gguf is None else file_digest(source.gguf),
        adapter=None if adapter is None else adapter.record(source.model_id, model_commit(source)),
    )
