"""Sizes of the models with a shipped configuration, so that random models need no download."""

from typing import Any

from transformers import (
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)


def _sizes(kind: type[PreTrainedConfig], *numbers: int, **more: Any) -> PreTrainedConfig:
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    settings: dict[str, Any] = dict(zip((*names, "num_key_value_heads"), numbers, strict=True))
    return kind(**settings, **{"max_position_embeddings": 8192, "tie_word_embeddings": False, **more})


SMALL = "small"
"""A small Llama with random weights only, used with the demo's text and tokenizer."""

# From the models' pages and config.json files.
ARCHITECTURES: dict[str, PreTrainedConfig] = {
    SMALL: _sizes(LlamaConfig, 8192, 256, 704, 8, 4, 2),
    "meta-llama/Meta-Llama-3-8B": _sizes(LlamaConfig, 128256, 4096, 14336, 32, 32, 8),
    "meta-llama/Meta-Llama-3-70B": _sizes(LlamaConfig, 128256, 8192, 28672, 80, 64, 8),
    "mistralai/Mistral-7B-v0.1": _sizes(MistralConfig, 32000, 4096, 14336, 32, 32, 8),
    "mistralai/Mistral-Small-24B-Base-2501": _sizes(MistralConfig, 131072, 5120, 32768, 40, 32, 8, head_dim=128),
    "google/gemma-2-9b": _sizes(Gemma2Config, 256000, 3584, 14336, 42, 16, 8, head_dim=256, tie_word_embeddings=True),
    "google/gemma-2-27b": _sizes(Gemma2Config, 256000, 4608, 36864, 46, 32, 16, head_dim=128, tie_word_embeddings=True),
    "Qwen/Qwen3-8B-Base": _sizes(Qwen3Config, 151936, 4096, 12288, 36, 32, 8, head_dim=128),
    "Qwen/Qwen3-14B-Base": _sizes(Qwen3Config, 151936, 5120, 17408, 40, 40, 8, head_dim=128),
    "Qwen/Qwen2.5-72B": _sizes(Qwen2Config, 152064, 8192, 29568, 80, 64, 8),
    "01-ai/Yi-34B": _sizes(LlamaConfig, 64000, 7168, 20480, 60, 56, 8, max_position_embeddings=4096),
    "HuggingFaceTB/SmolLM2-135M": _sizes(LlamaConfig, 49152, 576, 1536, 30, 9, 3, tie_word_embeddings=True),
    "Qwen/Qwen3-0.6B-Base": _sizes(Qwen3Config, 151936, 1024, 3072, 28, 16, 8, head_dim=128, tie_word_embeddings=True),
    "openai-community/gpt2": GPT2Config(),
    "EleutherAI/pythia-160m": GPTNeoXConfig(
        vocab_size=50304, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    ),
}
