"""Sizes of real models."""

from logos_pl.lm.memory import ModelShape

LLAMA_8B = ModelShape("llama", 8_030_261_248, 32, 4096, 128_256, 218_112_000, 1_050_677_248)
LLAMA_70B = ModelShape("llama", 70_553_706_496, 80, 8192, 128_256, 855_654_400, 2_101_354_496)
GEMMA_27B = ModelShape("gemma2", 27_227_128_320, 46, 4608, 256_000, 566_249_472, 1_179_652_608)
