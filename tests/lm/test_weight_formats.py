"""Formats of quantised weights: which are read and to which numbers, and why others are not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, PreTrainedConfig

from logos_pl.errors import InputError
from logos_pl.lm import packages
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.load_model import load_model
from logos_pl.lm.sources import locate
from logos_pl.lm.weight_formats import format_of, method_of, refuse_placement
from tests.quantised import make_bitsandbytes, make_compressed, make_fp8, package, wide_model, with_config

IDS = torch.arange(3, 15)[None]


def stored_by(settings: object) -> PreTrainedConfig:
    config = LlamaConfig()
    config.quantization_config = settings
    return config


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wide_model(tmp_path_factory.mktemp("formats") / "m")


def widened(folder: Path, plain: Path) -> Path:
    """An fp8 checkpoint's numbers as ordinary weights, by hand."""
    found = load_file(folder / "model.safetensors")
    tensors = {}
    for name in load_file(plain / "model.safetensors"):
        tensors[name] = found[name].float()
        if (scales := found.get(f"{name}_scale_inv")) is not None:
            tensors[name] *= scales.repeat_interleave(32, 0).repeat_interleave(32, 1)
    save_file(tensors, plain / "model.safetensors", {"format": "pt"})
    return plain


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fp8_weights_are_the_numbers_that_they_stand_for(plain: Path, tmp_path: Path, dtype: str) -> None:
    package("accelerate")
    stored = make_fp8(plain, tmp_path / "fp8")
    wanted = FrozenLM.load(str(widened(stored, wide_model(tmp_path / "wide"))), dtype=dtype)
    lm = load_model(str(stored), dtype=dtype)
    assert torch.equal(lm.logits(IDS), wanted.logits(IDS))
    assert {parameter.dtype for parameter in lm.model.parameters()} == {wanted.dtype}
    assert lm.loaded_as is not None
    assert lm.loaded_as.words() == "fp8, de-quantised when it is loaded"


def test_compressed_tensors_are_the_numbers_that_they_stand_for(plain: Path, tmp_path: Path) -> None:
    stored = make_compressed(plain, tmp_path / "compressed")
    wide, found, tensors = wide_model(tmp_path / "wide"), load_file(stored / "model.safetensors"), {}
    for name in load_file(wide / "model.safetensors"):
        tensors[name] = found[name].float() * found.get(f"{name}_scale", torch.ones(1))
    save_file(tensors, wide / "model.safetensors", {"format": "pt"})
    lm = FrozenLM.load(str(stored))
    assert torch.equal(lm.logits(IDS), FrozenLM.load(str(wide)).logits(IDS))
    assert lm.loaded_as is not None
    assert lm.loaded_as.format == "compressed-tensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [8, 4])
def test_bitsandbytes_weights_stay_quantised_and_the_head_is_the_models(
    plain: Path, tmp_path: Path, bits: int, dtype: torch.dtype
) -> None:
    lm = load_model(str(make_bitsandbytes(plain, tmp_path / "q", bits)), dtype=dtype)
    matrices = {parameter.dtype for parameter in lm.anatomy.blocks[0].parameters() if parameter.ndim == 2}
    assert matrices == {torch.int8 if bits == 8 else torch.uint8}
    assert lm.dtype == dtype
    assert lm.loaded_as is not None
    assert lm.loaded_as.words() == f"bitsandbytes {bits}-bit, quantised in memory"


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_output_layer_becomes_an_ordinary_one(plain: Path, tmp_path: Path, bits: int) -> None:
    from transformers import AutoModelForCausalLM
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    folder = make_bitsandbytes(plain, tmp_path / "q", bits, llm_int8_skip_modules=["none"])
    head = AutoModelForCausalLM.from_pretrained(folder, device_map={"": "cpu"}).lm_head
    assert not head.weight.is_floating_point()
    lm = FrozenLM.load(str(folder), dtype="float32")
    assert type(lm.anatomy.lm_head) is torch.nn.Linear
    wanted = dequantize_bnb_weight(head.weight, getattr(head, "state", None)).float()
    assert torch.equal(lm.anatomy.lm_head.weight, wanted)


REFUSED: dict[str, tuple[Mapping[str, Any], str]] = {
    "a GPU": ({"quant_method": "eetq"}, "quantised by the method 'eetq', which runs only on certain GPUs"),
    "another method": (
        {"quant_method": "hqq"},
        "quantised by the method 'hqq', which is a format that logos-pl does not",
    ),
    "no method": ({"bits": 4}, "quantised by the method 'None', which is a format that logos-pl does not read"),
    "GPTQ": ({"quant_method": "gptq", "bits": 4}, r"needs the packages gptqmodel and .*: `pip install gptqmodel "),
    "AWQ": ({"quant_method": "awq", "bits": 4}, r"has AWQ weights, and reading them needs the package"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_read_is_refused_with_the_reason(plain: Path, tmp_path: Path, what: str) -> None:
    settings, message = REFUSED[what]
    folder = wide_model(tmp_path / "m")
    with_config(folder, quantization_config=settings)
    (folder / "model.safetensors").unlink()  # which is not reached
    with pytest.raises(InputError, match=message) as caught:
        FrozenLM.load(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("method", "missing"), [("fp8", "accelerate"), ("compressed-tensors", "compressed-tensors")])
def test_a_missing_package_is_named(method: str, missing: str, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == missing.replace("-", "_") else True)
    config = stored_by({"quant_method": method})
    with pytest.raises(InputError, match=rf"needs the package {missing}, .*: `pip install {missing}`\."):
        format_of(locate(str(plain)), config)


def test_a_format_knows_what_a_weight_takes_in_memory(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: True)
    found = {}
    for settings in (
        {"load_in_8bit": True},
        {"load_in_4bit": True},
        {"quant_method": "gptq", "bits": 3},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "fp8"},
    ):
        stored = format_of(locate(str(plain)), stored_by(settings))
        assert stored is not None
        found[stored.name] = stored.block_bytes
    assert found == {
        "bitsandbytes 8-bit": 1.0,
        "bitsandbytes 4-bit": 0.5625,
        "GPTQ 3-bit": 0.4375,
        "AWQ 4-bit": 0.5625,
        "fp8": None,
    }
    assert format_of(locate(str(plain)), LlamaConfig()) is None


def test_methods_are_called_as_transformers_calls_them() -> None:
    assert method_of({"load_in_8bit": True, "quant_method": "bitsandbytes"}) == "bitsandbytes_8bit"
    assert method_of({"load_in_4bit": True}) == "bitsandbytes_4bit"
    assert method_of({"quant_method": "fp8"}) == "fp8"


@pytest.mark.parametrize("placement", ["streamed", "sharded"])
def test_only_plain_weights_are_streamed_or_sharded(placement: str) -> None:
    refuse_placement("m", None, placement)
    refuse_placement("m", "fp8 weights", "resident")
    with pytest.raises(InputError, match=r"m has fp8 weights, which is neither streamed nor sharded"):
        refuse_placement("m", "fp8 weights", placement)
