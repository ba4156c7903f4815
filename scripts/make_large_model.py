"""Make a random Llama of any size on disk, shard by shard, to try a model that is larger than memory on.

python scripts/make_large_model.py FOLDER --gigabytes 3 --blocks 24
"""

import argparse
import json
import shutil
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from logos_pl.demo import MODEL_DIR

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
HEAD_DIM = 64
SPREAD = 0.02
"""Standard deviation of the weights."""


def config_of(num_bytes: int, blocks: int) -> LlamaConfig:
    """The configuration of a Llama with the demo's vocabulary whose blocks take so many bytes in bfloat16."""
    vocab = AutoConfig.from_pretrained(MODEL_DIR).vocab_size
    # A block of width d has 4 d² numbers in attention and 3 · 3 d² in the MLP.
    width = max(1, round((num_bytes / 2 / blocks / 13) ** 0.5 / HEAD_DIM)) * HEAD_DIM
    return LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=blocks,
        num_attention_heads=width // HEAD_DIM,
        num_key_value_heads=width // HEAD_DIM,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )


def random_like(shape: torch.Size, noise: Tensor, turn: int) -> Tensor:
    """A tensor cut from a long random one at another place each time: as fast as a copy."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    start = turn * 7919 % (len(noise) - shape.numel())
    return noise[start : start + shape.numel()].view(shape).clone()


def make(folder: Path, num_bytes: int, blocks: int) -> None:
    """Write configuration, tokenizer, one shard per block and one for the rest, and their index."""
    folder.mkdir(parents=True)
    config = config_of(num_bytes, blocks)
    config.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (MODEL_DIR / name).exists():
            shutil.copy(MODEL_DIR / name, folder)
    with torch.device("meta"):
        shapes = {key: part.shape for key, part in AutoModelForCausalLM.from_config(config).named_parameters()}
    shards: dict[str, list[str]] = {}
    for key in shapes:
        block = key.split(".")[2] if key.startswith("model.layers.") else "rest"
        shards.setdefault(f"model-{block}.safetensors", []).append(key)
    largest = max(shape.numel() for shape in shapes.values())
    noise = (torch.randn(largest + 10**6, generator=torch.Generator().manual_seed(0)) * SPREAD).bfloat16()
    began, turn = time.monotonic(), 0
    for number, (shard, keys) in enumerate(shards.items(), start=1):
        tensors = {}
        for key in keys:
            turn += 1
            tensors[key] = random_like(shapes[key], noise, turn)
        save_file(tensors, folder / shard, {"format": "pt"})
        left = (time.monotonic() - began) / number * (len(shards) - number)
        print(f"\r{number}/{len(shards)} shards, {left:.0f} s left ", end="", flush=True)
    total = sum(2 * shape.numel() for shape in shapes.values())
    index = {
        "metadata": {"total_size": total},
        "weight_map": {key: shard for shard, keys in shards.items() for key in keys},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    print(f"\r{folder}: {total / 1e9:.2f} GB, {blocks} blocks of width {config.hidden_size}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--blocks", type=int, default=24)
    given = parser.parse_args()
    make(given.folder, int(given.gigabytes * 1e9), given.blocks)
