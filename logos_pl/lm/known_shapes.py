"""Sizes of the models named in `configs/`, so that memory can be estimated without asking the Hub."""

from logos_pl.lm.memory import ModelShape

KNOWN_SHAPES = {
    "demo": ModelShape("llama", 2_263_168, 8, 128, 3_072, 184_576, 786_560),
    "openai-community/gpt2": ModelShape("gpt2", 124_439_808, 12, 768, 50_257, 7_087_872, 39_385_344),
    "HuggingFaceTB/SmolLM2-135M": ModelShape("llama", 134_515_008, 30, 576, 49_152, 3_540_096, 28_312_128),
    "EleutherAI/pythia-160m": ModelShape("gpt_neox", 162_322_944, 12, 768, 50_304, 7_087_872, 77_268_480),
    "Qwen/Qwen3-0.6B-Base": ModelShape("qwen3", 596_049_920, 28, 1024, 151_936, 15_730_944, 155_583_488),
    "mistralai/Mistral-7B-v0.1": ModelShape("mistral", 7_241_732_096, 32, 4096, 32_000, 218_112_000, 262_148_096),
    "meta-llama/Meta-Llama-3-8B": ModelShape("llama", 8_030_261_248, 32, 4096, 128_256, 218_112_000, 1_050_677_248),
    "Qwen/Qwen3-8B-Base": ModelShape("qwen3", 8_190_735_360, 36, 4096, 151_936, 192_946_432, 1_244_663_808),
    "google/gemma-2-9b": ModelShape("gemma2", 9_241_705_984, 42, 3584, 256_000, 198_195_200, 917_507_584),
    "Qwen/Qwen3-14B-Base": ModelShape("qwen3", 14_768_307_200, 40, 5120, 151_936, 330_311_936, 1_555_829_760),
    "mistralai/Mistral-Small-24B-Base-2501": ModelShape(
        "mistral", 23_572_403_200, 40, 5120, 131_072, 555_755_520, 1_342_182_400
    ),
    "google/gemma-2-27b": ModelShape("gemma2", 27_227_128_320, 46, 4608, 256_000, 566_249_472, 1_179_652_608),
    "01-ai/Yi-34B": ModelShape("llama", 34_388_917_248, 60, 7168, 64_000, 557_856_768, 917_511_168),
    "meta-llama/Meta-Llama-3-70B": ModelShape("llama", 70_553_706_496, 80, 8192, 128_256, 855_654_400, 2_101_354_496),
    "Qwen/Qwen2.5-72B": ModelShape("qwen2", 72_706_203_648, 80, 8192, 152_064, 877_684_736, 2_491_424_768),
}
"""Sizes by model id, smallest first; a test recomputes them from the architectures."""
