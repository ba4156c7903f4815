"""Tiny quantised models and adapters, made from a folder of `make_model`; skips where their packages are missing."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.tiny import make_model

WIDE: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2}
"""Sizes that quantised formats can divide into their blocks of 32 weights."""

TOKENS = ["<s>", "<unk>", ".", "Ġ", *"abcdefghijklmnopqr", "Ġa"]
"""As many as the words of `make_model`: a vocabulary for byte pairs, which a GGUF file can hold."""

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def package(name: str) -> Any:
    """The module, or the test is skipped."""
    return pytest.importorskip(name, reason=f"the package {name} is not installed: pip install 'logos-pl[quantised]'")


def wide_model(folder: Path, **settings: Any) -> Path:
    """A model of `make_model` that can be quantised."""
    return make_model(folder, **(WIDE | {"pad_token_id": None} | settings))


def make_gguf(model: Path, path: Path, kind: str = "Q8_0", **metadata: Any) -> Path:
    """A GGUF file of a tiny Llama, written as llama.cpp writes it: matrices quantised, rows of q and k reordered."""
    gguf = package("gguf")
    config = json.loads((model / "config.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads[0])
    writer.add_head_count_kv(heads[1])
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType[f"{'ALL' if kind == 'F32' else 'MOSTLY'}_{kind}"])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS[: config["vocab_size"]])
    writer.add_token_types([3, 3, *[1] * (len(TOKENS) - 2)])
    writer.add_token_merges(["Ġ a"])
    writer.add_bos_token_id(0)
    writer.add_unk_token_id(1)
    for key, value in metadata.items():
        writer.add_uint32(key.replace("__", "."), value)
    for name, tensor in load_file(model / "model.safetensors").items():
        values = _reordered(name, tensor, heads).float().numpy()
        stored = gguf.GGMLQuantizationType[kind if values.ndim == 2 else "F32"]
        writer.add_tensor(_name(name), gguf.quants.quantize(np.ascontiguousarray(values), stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def de_quantised(model: Path, folder: Path, kind: str = "Q8_0") -> Path:
    """The model with the numbers that a GGUF file of it holds, by the package gguf, as ordinary weights."""
    gguf = package("gguf")
    shutil.copytree(model, folder)
    stored = gguf.GGMLQuantizationType[kind]
    tensors = load_file(model / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.ndim == 2:
            quantised = gguf.quants.quantize(tensor.float().numpy(), stored)
            tensors[name] = torch.from_numpy(np.copy(gguf.quants.dequantize(quantised, stored)))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def make_adapter(model: Path, folder: Path, kind: str = "LORA", seed: int = 0, **settings: Any) -> Path:
    """A random adapter of a tiny model, as peft saves it."""
    peft = package("peft")
    package("accelerate")
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    given = {"target_modules": ["q_proj", "down_proj"]} | ({"r": 2} if kind in ("LORA", "LOHA", "LOKR", "VERA") else {})
    if kind == "IA3":
        given["feedforward_modules"] = ["down_proj"]
    with warnings.catch_warnings(action="ignore"):  # of peft, on names of transformers
        config = peft.PEFT_TYPE_TO_CONFIG_MAPPING[kind](**(given | {"task_type": "CAUSAL_LM"} | settings))
        adapted = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model), config)
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                noise = torch.randn_like(parameter) * 0.2
                parameter.data = parameter.data + noise if "modules_to_save" in name or kind == "IA3" else noise
        adapted.save_pretrained(folder)
    return folder


def make_fp8(model: Path, folder: Path) -> Path:
    """The model with its matrices in fp8 and a scale for every 32 × 32 weights."""
    shutil.copytree(model, folder)
    found: dict[str, Tensor] = {}
    for name, tensor in load_file(model / "model.safetensors").items():
        found[name] = tensor
        if tensor.ndim == 2 and "layers" in name:
            rows, columns = tensor.shape
            blocks = tensor.float().reshape(rows // 32, 32, columns // 32, 32)
            scales = blocks.abs().amax((1, 3), keepdim=True) / 448
            found[name] = (blocks / scales).reshape(rows, columns).to(torch.float8_e4m3fn)
            found[f"{name}_scale_inv"] = scales[:, 0, :, 0].contiguous()
    save_file(found, folder / "model.safetensors", {"format": "pt"})
    settings = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [32, 32], "fmt": "e4m3"}
    return with_config(folder, quantization_config=settings)


def make_compressed(model: Path, folder: Path) -> Path:
    """The model with its matrices in fp8 and a scale for each, as compressed-tensors saves it."""
    package("compressed_tensors")
    shutil.copytree(model, folder)
    found: dict[str, Tensor] = {}
    for name, tensor in load_file(model / "model.safetensors").items():
        found[name] = tensor
        if tensor.ndim == 2 and "layers" in name:
            scale = tensor.abs().max() / 448
            found[name] = (tensor / scale).to(torch.float8_e4m3fn)
            found[f"{name}_scale"] = scale.reshape(1)
    save_file(found, folder / "model.safetensors", {"format": "pt"})
    weights = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor", "dynamic": False}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head"],
    }
    return with_config(folder, quantization_config=settings)


def make_bitsandbytes(model: Path, folder: Path, bits: int, **settings: Any) -> Path:
    """The model as bitsandbytes quantises it."""
    package("bitsandbytes")
    package("accelerate")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(**({f"load_in_{bits}bit": True} | settings))
    quantised = AutoModelForCausalLM.from_pretrained(model, quantization_config=config, device_map={"": "cpu"})
    quantised.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(model / name, folder)
    return folder


def with_config(folder: Path, **changes: object) -> Path:
    """A model's folder with changes in its config.json."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def _name(name: str) -> str:
    outside = {
        "model.embed_tokens.weight": "token_embd",
        "model.norm.weight": "output_norm",
        "lm_head.weight": "output",
    }
    if name in outside:
        return f"{outside[name]}.weight"
    _, _, block, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{block}.{NAMES[part]}.weight"


def _reordered(name: str, tensor: Tensor, heads: tuple[int, int]) -> Tensor:
    for part, count in zip(("q_proj", "k_proj"), heads, strict=True):
        if f".{part}." in name:
            return tensor.reshape(count, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
    return tensor
