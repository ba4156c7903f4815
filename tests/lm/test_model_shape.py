"""Sizes of models, counted from their configurations."""

from pathlib import Path

import pytest
from transformers import AutoConfig, Gemma2Config, GPTJConfig, LlamaConfig

from logos_pl.errors import InputError
from logos_pl.lm.anatomy import find_parts
from logos_pl.lm.model_shape import model_shape, shape_of
from tests.lm.families import FAMILIES, VOCAB, tiny_model
from tests.lm.model_shapes import GEMMA_27B, LLAMA_70B


def test_tables_over_all_positions_are_refused_before_they_are_made() -> None:
    settings = {"n_embd": 8, "n_layer": 2, "n_head": 2, "rotary_dim": 4, "vocab_size": 23}
    assert shape_of(GPTJConfig(**settings, n_positions=64)).num_blocks == 2
    with pytest.raises(InputError, match=r"describes tables of \d\d GiB in addition to .* masks over all positions"):
        shape_of(GPTJConfig(**settings, n_positions=10**9))


@pytest.mark.parametrize("name", ["llama", "llama_tied", "gpt2", "qwen3_moe", "opt_project"])
def test_parameters_are_counted_without_making_them_and_tied_ones_once(name: str) -> None:
    family = FAMILIES[name]
    shape = shape_of(AutoConfig.for_model(family.model_type, **family.settings))
    assert shape.num_parameters == sum(p.numel() for p in tiny_model(name).parameters())
    assert (shape.num_blocks, shape.d_model, shape.vocab_size) == (3, 32, 97)
    anatomy = find_parts(tiny_model(name))
    blocks = [sum(p.numel() for p in block.parameters()) for block in anatomy.blocks]
    assert shape.largest_block == max(blocks)
    assert shape.outside_blocks == shape.num_parameters - sum(blocks)


def test_real_sizes_come_out_of_real_configurations_in_no_memory() -> None:
    llama = LlamaConfig(
        vocab_size=128_256,
        hidden_size=8192,
        intermediate_size=28_672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    )
    assert shape_of(llama) == LLAMA_70B
    gemma = Gemma2Config(
        hidden_size=4608,
        intermediate_size=36_864,
        num_hidden_layers=46,
        num_attention_heads=32,
        num_key_value_heads=16,
        head_dim=128,
    )
    assert shape_of(gemma) == GEMMA_27B


def test_sizes_come_from_the_configuration_without_weights(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    tiny_model("llama").save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    shape = model_shape(str(folder))
    assert (shape.family, shape.num_blocks, shape.d_model, shape.vocab_size) == ("llama", 3, 32, VOCAB)
    assert model_shape(str(folder)).num_parameters == sum(p.numel() for p in tiny_model("llama").parameters())
