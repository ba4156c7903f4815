"""Sizes of the models that `configs/` names, so that what fits is known without asking the Hub."""

from logos_pl.lm.memory import ModelShape

KNOWN_SHAPES = {
    "demo": ModelShape("llama", 2_263_168, 8, 128, 3_072),
    "openai-community/gpt2": ModelShape("gpt2", 124_439_808, 12, 768, 50_257),
    "HuggingFaceTB/SmolLM2-135M": ModelShape("llama", 134_515_008, 30, 576, 49_152),
    "EleutherAI/pythia-160m": ModelShape("gpt_neox", 162_322_944, 12, 768, 50_304),
    "Qwen/Qwen3-0.6B-Base": ModelShape("qwen3", 596_049_920, 28, 1024, 151_936),
    "mistralai/Mistral-7B-v0.1": ModelShape("mistral", 7_241_732_096, 32, 4096, 32_000),
    "meta-llama/Meta-Llama-3-8B": ModelShape("llama", 8_030_261_248, 32, 4096, 128_256),
    "Qwen/Qwen3-8B-Base": ModelShape("qwen3", 8_190_735_360, 36, 4096, 151_936),
    "google/gemma-2-9b": ModelShape("gemma2", 9_241_705_984, 42, 3584, 256_000),
    "Qwen/Qwen3-14B-Base": ModelShape("qwen3", 14_768_307_200, 40, 5120, 151_936),
    "mistralai/Mistral-Small-24B-Base-2501": ModelShape("mistral", 23_572_403_200, 40, 5120, 131_072),
    "google/gemma-2-27b": ModelShape("gemma2", 27_227_128_320, 46, 4608, 256_000),
    "01-ai/Yi-34B": ModelShape("llama", 34_388_917_248, 60, 7168, 64_000),
    "meta-llama/Meta-Llama-3-70B": ModelShape("llama", 70_553_706_496, 80, 8192, 128_256),
    "Qwen/Qwen2.5-72B": ModelShape("qwen2", 72_706_203_648, 80, 8192, 152_064),
}
"""Sizes by model id, the smallest first; a test counts them from the architectures."""
