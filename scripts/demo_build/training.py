"""The demo's model: a small Llama, trained from scratch on the demo's text."""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import LambdaLR
from transformers import LlamaConfig, LlamaForCausalLM

from demo_build.tokens import CONTEXT_LENGTH


@dataclass(frozen=True)
class Recipe:
    """Sizes and schedule of the training; the defaults are those of the shipped model."""

    vocab_size: int = 3072
    d_model: int = 128
    feedforward: int = 352
    num_blocks: int = 8
    num_heads: int = 4
    num_kv_heads: int = 2
    steps: int = 1400
    batch_tokens: int = 2048
    short_seq: int = 128
    long_share: float = 0.2  # the last part of the steps, at the full context length
    muon_lr: float = 0.02
    adam_lr: float = 8e-3
    warmup_steps: int = 60
    weight_decay: float = 0.05
    seed: int = 0


def build_model(recipe: Recipe) -> LlamaForCausalLM:
    """The untrained model, the same for the same seed."""
    torch.manual_seed(recipe.seed)
    config = LlamaConfig(
        vocab_size=recipe.vocab_size,
        hidden_size=recipe.d_model,
        intermediate_size=recipe.feedforward,
        num_hidden_layers=recipe.num_blocks,
        num_attention_heads=recipe.num_heads,
        num_key_value_heads=recipe.num_kv_heads,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=None,
        pad_token_id=None,
    )
    return LlamaForCausalLM(config)


def rate_factor(recipe: Recipe, step: int) -> float:
    """Factor of the learning rates at `step`: linear warm-up, then half a cosine down to 1/50."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def windows(documents: list[Int[Tensor, " seq"]], recipe: Recipe) -> Iterator[Int[Tensor, "batch seq"]]:
    """Yield one batch per step: half of its windows begin with a document, half anywhere, as in packed text."""
    stream = torch.cat(documents).long()
    starts = torch.tensor([0] + [len(document) for document in documents[:-1]]).cumsum(0)
    generator = torch.Generator().manual_seed(recipe.seed)
    long_from = round(recipe.steps * (1 - recipe.long_share))
    for step in range(recipe.steps):
        seq = CONTEXT_LENGTH if step >= long_from else recipe.short_seq
        batch = recipe.batch_tokens // seq
        last = len(stream) - seq - 1
        at_documents = starts[starts <= last]
        chosen = at_documents[torch.randint(len(at_documents), (batch - batch // 2,), generator=generator)]
        anywhere = torch.randint(last, (batch // 2,), generator=generator)
        yield stream[torch.cat([chosen, anywhere])[:, None] + torch.arange(seq + 1)]


def _optimisers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the embedding, the head and the norms.

    With AdamW alone the phrasings are learned in the same number of steps, but the facts take several times as many.
    """
    inside = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in inside}
    outside = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(inside, lr=recipe.muon_lr, momentum=0.95, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(outside, lr=recipe.adam_lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def report(step: int, steps: int, loss_nats: float, started: float) -> None:
    """Print progress and the remaining time."""
    spent = time.monotonic() - started
    left = spent / (step + 1) * (steps - step - 1)
    print(
        f"step {step + 1}/{steps}  loss {loss_nats:.3f} nats/token  {spent:.0f} s, {left:.0f} s to go", file=sys.stderr
    )


def train(model: LlamaForCausalLM, documents: list[Int[Tensor, " seq"]], recipe: Recipe) -> float:
    """Train `model` in place; returns the mean loss of the last hundred steps in nats per token."""
    optimisers = _optimisers(model, recipe)
    schedules = [LambdaLR(optimiser, partial(rate_factor, recipe)) for optimiser in optimisers]
    started, losses = time.monotonic(), []
    model.train()
    for step, window in enumerate(windows(documents, recipe)):
        logits = model(window[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
        model.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if (step + 1) % 25 == 0 or step + 1 == recipe.steps:
            report(step, recipe.steps, sum(losses[-25:]) / len(losses[-25:]), started)
    model.eval()
    return sum(losses[-100:]) / len(losses[-100:])


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, documents: list[Int[Tensor, " seq"]]) -> float:
    """Mean loss on `documents`, packed into full contexts, in nats per token."""
    stream = torch.cat(documents).long()
    packs = stream[: len(stream) // CONTEXT_LENGTH * CONTEXT_LENGTH].view(-1, CONTEXT_LENGTH)
    total = 0.0
    for pack in packs.split(4):
        logits = model(pack, use_cache=False).logits[:, :-1]
        total += F.cross_entropy(logits.flatten(0, 1), pack[:, 1:].flatten(), reduction="sum").item()
    return total / (len(packs) * (CONTEXT_LENGTH - 1))
