"""A family whose blocks exchange more than the stream is refused by name, for streaming only."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from logos_pl.errors import InputError
from logos_pl.lm.block_weights import BlockWeights
from logos_pl.lm.sources import ModelSource
from tests.lm.families import BLOCKS, build, tiny_model
from tests.lm.placed import resident, save, streamed

COMPUTE = LlamaDecoderLayer.forward
REMEDY = "give --model.placement resident"


@pytest.fixture
def source(tmp_path: Path) -> ModelSource:
    return save(tiny_model("llama"), tmp_path / "m")


def test_a_block_that_remembers_what_another_has_read_is_refused(
    source: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def remember(block: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        h = COMPUTE(block, hidden_states, *args, **kwargs)
        if block.self_attn.layer_idx == 2:  # what the first block has read last, a causal function of it
            h = h + seen[-1][: h.shape[0]]
        elif block.self_attn.layer_idx == 0:
            seen.append(hidden_states)
        return h

    monkeypatch.setattr(LlamaDecoderLayer, "forward", remember)
    resident(source)
    with pytest.raises(
        InputError,
        match=r"LlamaForCausalLM cannot be streamed: its blocks exchange more than the residual stream "
        rf"\(row 3 differs\); {REMEDY}",
    ):
        streamed(source)


def test_a_block_that_needs_what_another_has_made_is_refused(
    source: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def need(block: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if block.self_attn.layer_idx == 2:
            made.pop()
        else:
            made[:] = [1] if block.self_attn.layer_idx == 1 else []
        return COMPUTE(block, hidden_states, *args, **kwargs)

    monkeypatch.setattr(LlamaDecoderLayer, "forward", need)
    resident(source)
    with pytest.raises(
        InputError,
        match=r"LlamaForCausalLM cannot be streamed: its blocks exchange more than the residual stream "
        rf"\(IndexError: pop from empty list\); {REMEDY}",
    ):
        streamed(source)


def test_the_checks_at_load_read_every_block_four_times(source: ModelSource, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_read: list[int] = []
    read_block = BlockWeights._read_block

    def counted(weights: BlockWeights, number: int) -> Any:
        blocks_read.append(number)
        return read_block(weights, number)

    monkeypatch.setattr(BlockWeights, "_read_block", counted)
    streamed(source)
    passes = 4 * BLOCKS
    assert blocks_read[:passes] == [*range(BLOCKS)] * 4, "docs/memory.md has the number"
    assert blocks_read[passes:] in ([], [0]), "the first block of a further pass may be on its way"


def test_blocks_that_share_weights_are_refused(tmp_path: Path) -> None:
    settings = {
        "vocab_size": 97,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "num_attention_heads": 4,
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
        "mamba_d_state": 8,
        "mamba_ngroups": 1,
        "intermediate_size": 48,
        "num_mem_blocks": 1,
        "adapter_rank": 4,
    }
    model = build(lambda: AutoModelForCausalLM.from_config(AutoConfig.for_model("zamba2", **settings)))
    source = save(model, tmp_path / "m")
    resident(source)
    with pytest.raises(InputError, match=r"Zamba2ForCausalLM cannot be streamed or sharded: its blocks share weights"):
        streamed(source)
