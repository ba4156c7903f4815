"""The same saved model in memory, streamed and sharded, without a tokenizer."""

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from logos_pl.lm.block_weights import BlockWeights
from logos_pl.lm.config import read_config
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.hollow import read_hollow_model
from logos_pl.lm.loading import read_model
from logos_pl.lm.quiet import quiet
from logos_pl.lm.sharded import Sharing, read_sharded_model
from logos_pl.lm.sources import ModelSource
from logos_pl.lm.streamed import Group, StreamedBody

CPU = torch.device("cpu")


def save(model: PreTrainedModel, folder: Path, max_shard_size: str = "50GB") -> ModelSource:
    with quiet():
        model.save_pretrained(folder, max_shard_size=max_shard_size)
    return ModelSource(folder.name, None, folder / "config.json")


def resident(source: ModelSource, dtype: torch.dtype = torch.float32) -> FrozenLM:
    return FrozenLM(read_model(source, read_config(source), dtype), None, model_id=source.model_id)


def streamed(
    source: ModelSource,
    dtype: torch.dtype = torch.float32,
    group_tokens: int = 70,
    kept_bytes: int = 2**30,
    device: torch.device = CPU,
) -> FrozenLM:
    blocks, weights, model = hollow_parts(source, dtype, device)
    body = StreamedBody(blocks, weights, Group(group_tokens, kept_bytes), source.model_id)
    return FrozenLM(model, None, model_id=source.model_id, streamed=body)


def hollow_parts(
    source: ModelSource, dtype: torch.dtype = torch.float32, device: torch.device = CPU
) -> tuple[list[nn.Module], BlockWeights, PreTrainedModel]:
    hollow = read_hollow_model(source, read_config(source), dtype, device, pinned=device.type == "cuda")
    return hollow.blocks, BlockWeights(hollow.model, hollow.plan, hollow.read, device), hollow.model


def sharded(source: ModelSource, dtype: torch.dtype = torch.float32, nodes: int = 1) -> FrozenLM:
    sharing = Sharing(CPU, nodes)
    model = read_sharded_model(source, read_config(source), dtype, CPU, sharing).model
    return FrozenLM(model, None, model_id=source.model_id, sharing=sharing)


def streamed_body(lm: FrozenLM) -> StreamedBody:
    assert lm.streamed is not None
    return lm.streamed
