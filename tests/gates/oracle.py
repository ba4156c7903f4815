"""The figures of a lens on the bundled demo in float64, from its files alone: plain hooks, one prompt and one row at a
time, nothing of the package but the paths of its files."""

import hashlib
import math
import statistics
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet
import torch
import yaml
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import logos_pl

PACKAGE = Path(logos_pl.__file__).parent
DEMO = PACKAGE / "demo" / "model"
TEXT = PACKAGE / "demo" / "text" / "data"
FACTS = PACKAGE / "data" / "suites" / "facts.yaml"

NUM_BLOCKS = 8
DEPTHS = {"25": 2, "50": 4, "75": 6}
SEQ_LEN, FIRST, HELD_OUT_FRAC = 64, 32, 0.02
"""Text is measured at every position of the second half, so that nothing is drawn."""


class Text(NamedTuple):
    """One lens on text: figures per row, in order of sequence and position."""

    to_final: Tensor
    from_final: Tensor
    agree: Tensor
    nats: Tensor


class Fact(NamedTuple):
    """A fact of the suite, with the first token of its answer."""

    name: str
    ids: list[int]
    answer: int


@cache
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(DEMO)


@cache
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float64)


@cache
def facts() -> list[Fact]:
    """The packaged suite; the tokenizer splits at spaces, so an answer is what follows the prompt's tokens."""
    found = []
    for number, fact in enumerate(yaml.safe_load(FACTS.read_text())["facts"], start=1):
        ids = tokenizer()(fact["prompt"])["input_ids"]
        whole = tokenizer()(f"{fact['prompt']} {fact['answer']}")["input_ids"]
        assert whole[: len(ids)] == ids
        found.append(Fact(fact.get("id", f"p{number}"), ids, whole[len(ids)]))
    return found


@cache
def sequences(side: str, count: int) -> list[list[int]]:
    """The first packed sequences of held-out documents: hashed, tokenised, laid end to end and cut."""
    low = {"val": 0.0, "test": HELD_OUT_FRAC}[side]
    tokens: list[int] = []
    for shard in sorted(TEXT.iterdir()):
        for text in pyarrow.parquet.read_table(shard, columns=["text"])["text"].to_pylist():
            u = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
            if low <= u < low + HELD_OUT_FRAC and len(tokens) < count * SEQ_LEN:
                tokens += tokenizer()(text)["input_ids"]
    return [tokens[i * SEQ_LEN : (i + 1) * SEQ_LEN] for i in range(count)]


@torch.no_grad()
def rows_of(ids: list[int]) -> Tensor:
    """The residual stream [rows, pos, d_model] of one text, by plain hooks."""
    kept: list[Tensor] = []
    layers = model().model.layers
    handles = [layers[0].register_forward_pre_hook(lambda m, args: kept.append(args[0][0]))]
    handles += [
        layer.register_forward_hook(lambda m, a, out: kept.append((out[0] if isinstance(out, tuple) else out)[0]))
        for layer in layers
    ]
    model()(torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack([h if h.dim() == 2 else h[0] for h in kept])


def normed(h: Tensor) -> Tensor:
    norm = model().model.norm
    return h / (h.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).sqrt() * norm.weight


def kl_bits(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1) / math.log(2)


@cache
def read(side: str, count: int) -> tuple[Tensor, Tensor]:
    """Residuals [rows, pos, d_model] at the measured positions, and the tokens that follow; −1 where no text does."""
    texts = sequences(side, count)
    h = torch.cat([rows_of(ids)[:, FIRST:] for ids in texts], dim=1)
    following = torch.tensor([following for ids in texts for following in [*ids[FIRST + 1 :], -1]])
    following[following == tokenizer().bos_token_id] = -1
    return h, following


@cache
def after_facts() -> Tensor:
    """Residuals [rows, facts, d_model] after each fact's last token."""
    return torch.stack([rows_of(fact.ids)[:, -1] for fact in facts()], dim=1)


class Lens:
    """Any of the four lenses, from an artifact's weights."""

    def __init__(self, weights: dict[str, Tensor] | None = None, inv_tau: dict[int, float] | None = None) -> None:
        self.weights = None if weights is None else {name: value.double() for name, value in weights.items()}
        self.inv_tau = inv_tau or {}

    def log_q(self, row: int, h: Tensor) -> Tensor:
        x, inv_tau = normed(h), self.inv_tau.get(row, 1.0)
        if self.weights is not None and 0 < row < NUM_BLOCKS:
            u, v, c, log_tau = (self.weights[name][row - 1] for name in ("U", "V", "c", "log_tau"))
            x = x + (x @ u) @ v.T + c
            inv_tau = 1.0 / (math.log1p(math.exp(float(log_tau))) + 1e-3)
        return torch.log_softmax(x @ model().lm_head.weight.T * inv_tau, dim=-1)

    @torch.no_grad()
    def text(self, count: int) -> Text:
        h, following = read("test", count)
        log_p = Lens().log_q(NUM_BLOCKS, h[-1])
        rows = []
        for row in range(NUM_BLOCKS + 1):
            log_q = self.log_q(row, h[row])
            nats = -log_q.gather(1, following.clamp(min=0)[:, None])[:, 0]
            agree = (log_q.argmax(-1) == log_p.argmax(-1)).double()
            rows.append((kl_bits(log_q, log_p), kl_bits(log_p, log_q), agree, nats[following >= 0]))
        return Text(*(torch.stack(part) for part in zip(*rows, strict=True)))

    @torch.no_grad()
    def prompts(self) -> tuple[Tensor, Tensor, Tensor]:
        """KL both ways and the answer's rank, each [rows, facts]."""
        h, answers = after_facts(), torch.tensor([fact.answer for fact in facts()])
        log_p = Lens().log_q(NUM_BLOCKS, h[-1])
        rows = []
        for row in range(NUM_BLOCKS + 1):
            log_q = self.log_q(row, h[row])
            rank = 1 + (log_q > log_q.gather(1, answers[:, None])).sum(-1)
            rows.append((kl_bits(log_q, log_p), kl_bits(log_p, log_q), rank))
        to_final, from_final, ranks = (torch.stack(part) for part in zip(*rows, strict=True))
        return to_final, from_final, ranks


@torch.no_grad()
def best_inv_tau(row: int, count: int) -> float:
    """The 1/τ of the norm lens's row on validation text, by ternary search: the divergence is convex in it."""
    h, _ = read("val", count)
    log_p = Lens().log_q(NUM_BLOCKS, h[-1])
    logits = normed(h[row]) @ model().lm_head.weight.T

    def loss(inv_tau: float) -> float:
        return float(kl_bits(log_p, torch.log_softmax(logits * inv_tau, dim=-1)).mean())

    low, high = 0.01, 10.0
    for _ in range(60):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return (low + high) / 2


def median(values: Tensor) -> float:
    return statistics.median(values.tolist())


@torch.no_grad()
def perplexity(weights: dict[str, Tensor], skipped: int, count: int) -> float:
    """The model with its last blocks really taken out and the lens's row in their place; over every token but first."""
    ids = torch.tensor(sequences("test", count))
    if skipped == 0:
        return math.exp(float(model()(input_ids=ids, labels=ids).loss))
    layers, row = model().model.layers, NUM_BLOCKS - skipped
    kept: list[Tensor] = []
    model().model.layers = layers[:row]
    handle = model().model.norm.register_forward_pre_hook(lambda m, args: kept.append(args[0]))
    try:
        model()(input_ids=ids, use_cache=False)
    finally:
        handle.remove()
        model().model.layers = layers
    log_q = Lens(weights).log_q(row, kept[0][:, :-1])
    return math.exp(-float(log_q.gather(-1, ids[:, 1:, None]).mean()))
