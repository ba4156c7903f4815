"""Make a random Llama of any size on disk, shard by shard, to try a model that is larger than memory on.

python scripts/make_large_model.py FOLDER --gigabytes 3 --blocks 24
python scripts/make_large_model.py FOLDER --like meta-llama/Meta-Llama-3-70B --blocks 8
"""

import argparse
import copy
import json
import shutil
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.architectures import ARCHITECTURES
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


def config_like(model_id: str, blocks: int) -> PreTrainedConfig:
    """The configuration of a known model with another number of blocks."""
    config = copy.deepcopy(ARCHITECTURES[model_id])
    config.num_hidden_layers = blocks
    with torch.device("meta"):
        config.architectures = [type(AutoModelForCausalLM.from_config(config)).__name__]
    config.dtype = "bfloat16"
    return config


def random_like(shape: torch.Size, noise: Tensor, turn: int) -> Tensor:
    """A tensor cut from a long random one at another place each time: as fast as a copy."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    start = turn * 7919 % (len(noise) - shape.numel())
    return noise[start : start + shape.numel()].view(shape).clone()


def make(folder: Path, config: PreTrainedConfig) -> None:
    """Write configuration, tokenizer (the demo's), one shard per block and one for the rest, and their index."""
    folder.mkdir(parents=True)
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
    print(f"\r{folder}: {total / 1e9:.2f} GB, {config.num_hidden_layers} blocks of width {config.hidden_size}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--like", choices=sorted(ARCHITECTURES), help="sizes of a known model, in place of --gigabytes")
    given = parser.parse_args()
    sized = config_of(int(given.gigabytes * 1e9), given.blocks)
    make(given.folder, sized if given.like is None else config_like(given.like, given.blocks))
