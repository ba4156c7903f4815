"""A model without the matrices of its blocks is otherwise the model; and what is wrong with its files is said."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from logos_pl.errors import InputError
from logos_pl.lm.config import read_config
from logos_pl.lm.hollow import read_hollow_model
from logos_pl.lm.loading import read_model
from logos_pl.lm.sources import ModelSource
from tests.lm.families import BLOCKS, tiny_model
from tests.lm.model_folder import edit
from tests.lm.placed import CPU, hollow_parts, save, streamed

WEIGHTS = "model.safetensors"


@pytest.fixture
def source(tmp_path: Path) -> ModelSource:
    return save(tiny_model("llama"), tmp_path / "m")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", ["gemma2", "gpt2", "mamba", "mixtral", "opt_project"])
def test_parameters_and_tables_are_those_of_an_ordinary_load(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    source = save(tiny_model(name), tmp_path / name)
    whole = read_model(source, read_config(source), dtype)
    blocks, weights, hollow = hollow_parts(source, dtype)
    assert type(hollow) is type(whole)
    assert len(blocks) == BLOCKS
    wanted, seen = dict(whole.named_parameters()), set()
    for number in range(BLOCKS):
        weights.take(number)
        for key, parameter in hollow.named_parameters():
            if not parameter.is_meta:
                seen.add(key)
                assert parameter.dtype == wanted[key].dtype
                assert torch.equal(parameter, wanted[key])
    assert seen == set(wanted)
    tables = dict(hollow.named_buffers())
    assert tables.keys() == dict(whole.named_buffers()).keys()
    assert all(torch.equal(table, tables[key]) for key, table in whole.named_buffers())


def test_only_matrices_of_blocks_are_missing(source: ModelSource) -> None:
    model = read_hollow_model(source, read_config(source), torch.float32, CPU).model
    missing = {key for key, parameter in model.named_parameters() if parameter.is_meta}
    assert missing == {
        key for key, p in tiny_model("llama").named_parameters() if key.startswith("model.layers.") and p.ndim > 1
    }


def test_weights_that_are_not_in_safetensors_are_refused(source: ModelSource) -> None:
    torch.save(load_file(source.folder / WEIGHTS), source.folder / "pytorch_model.bin")
    (source.folder / WEIGHTS).unlink()
    with pytest.raises(
        InputError,
        match=r"weights in pytorch_model.bin, but a model is streamed or sharded from safetensors only: convert them",
    ):
        streamed(source)


def test_quantised_weights_are_refused(source: ModelSource) -> None:
    edit(source.folder, quantization_config={"quant_method": "fp8"})
    with pytest.raises(InputError, match="m has quantised weights, which are neither streamed nor sharded"):
        streamed(source)


def test_a_missing_tensor_of_a_block_is_named(source: ModelSource) -> None:
    tensors = load_file(source.folder / WEIGHTS)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, source.folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(
        InputError,
        match=r"the weights of m lack 1 tensors of its architecture, model.layers.1.mlp.up_proj.weight first",
    ):
        streamed(source)


def test_a_tensor_of_another_shape_is_named(source: ModelSource) -> None:
    tensors = load_file(source.folder / WEIGHTS)
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(47, 32)
    save_file(tensors, source.folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(InputError, match=r"up_proj.weight is \[47, 32\] in the file and \[48, 32\] by the config"):
        streamed(source)


def test_blocks_that_the_configuration_does_not_describe_are_refused(source: ModelSource) -> None:
    edit(source.folder, num_hidden_layers=BLOCKS - 1)
    with pytest.raises(InputError, match=r"have blocks that its config.json does not describe, model.layers.2"):
        streamed(source)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    source = save(tiny_model("llama"), tmp_path / "m", max_shard_size="20KB")
    index = json.loads((source.folder / f"{WEIGHTS}.index.json").read_text())
    last = sorted(set(index["weight_map"].values()))[-1]
    (source.folder / last).unlink()
    with pytest.raises(InputError, match=f"m lacks {last}, a file of its weights; fetch the complete model"):
        streamed(source)


def test_a_truncated_file_is_refused_before_anything_is_read(source: ModelSource) -> None:
    with (source.folder / WEIGHTS).open("r+b") as file:
        file.truncate(4000)
    with pytest.raises(InputError, match=f"{WEIGHTS} of m, a file of its weights, is damaged"):
        streamed(source)


def test_numbers_that_are_not_finite_are_refused(source: ModelSource) -> None:
    tensors = load_file(source.folder / WEIGHTS)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = torch.nan
    save_file(tensors, source.folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(
        InputError, match=r"row 2 \(the output of block 2\) of LlamaForCausalLM is not finite in float32"
    ):
        streamed(source)
