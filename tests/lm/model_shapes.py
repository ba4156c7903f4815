"""Sizes of real models."""

from logos_pl.lm.memory import ModelShape

LLAMA_8B = ModelShape("llama", 8_030_261_248, 32, 4096, 128_256)
LLAMA_70B = ModelShape("llama", 70_553_706_496, 80, 8192, 128_256)
GEMMA_27B = ModelShape("gemma2", 27_227_128_320, 46, 4608, 256_000)
