"""The fused lens loss against the same loss with materialised logits and autograd, on the same tensors."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from benchmarks.flop import count_flop
from benchmarks.machine import peaks_flop_per_s, products
from benchmarks.timing import Clock, Ratio, alternate, ratio
from logos_pl.functional.lens_loss import lens_loss
from logos_pl.functional.unembedding import Unembedding


@dataclass(frozen=True)
class LossSetting:
    """Sizes on which the losses are compared.

    Args:
        vocab_sizes: vocabularies to compare times at.
        memory_vocab_sizes: vocabularies to compare peak memory at, where the naive loss fits.
        d_head: width of what the head multiplies.
        rows: rows of the residual stream.
        positions: positions.
    """

    vocab_sizes: list[int] = field(default_factory=lambda: [1024, 8192, 32768])
    memory_vocab_sizes: list[int] = field(default_factory=lambda: [8192, 32768, 131072])
    d_head: int = 256
    rows: int = 7
    positions: int = 512


class LossInputs(NamedTuple):
    """The arguments of `lens_loss`."""

    x: Float[Tensor, "rows pos d_head"]
    final_x: Float[Tensor, "pos d_head"]
    inv_tau: Float[Tensor, " rows"]
    head: Unembedding


class LossTime(NamedTuple):
    """Times of forward and backward at one vocabulary size.

    Attributes:
        vocab: Vocabulary size.
        pairs: (row, position) pairs.
        fused_seconds: Median.
        naive_seconds: Median.
        naive_to_fused: Ratio of the times.
        fused_flop: Operations counted in the matrix products.
        naive_flop: The same for the naive loss.
        peak_flop_per_s: Rate of the best matrix product in the same run.
        lens_mfu: 4·d·V per pair, over the fused time and the peak.
    """

    vocab: int
    pairs: int
    fused_seconds: float
    naive_seconds: float
    naive_to_fused: Ratio
    fused_flop: int
    naive_flop: int
    peak_flop_per_s: float
    lens_mfu: float


def make_inputs(setting: LossSetting, vocab: int, device: torch.device, dtype: torch.dtype) -> LossInputs:
    """Random tensors with logits of unit scale; a half-precision ``dtype`` applies only to the head."""
    generator = torch.Generator().manual_seed(316)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    d = setting.d_head
    return LossInputs(
        draw(setting.rows, setting.positions, d).requires_grad_(),
        draw(setting.positions, d),
        torch.ones(setting.rows, device=device).requires_grad_(),
        Unembedding((draw(vocab, d) * d**-0.5).to(dtype)),
    )


def fused(inputs: LossInputs) -> Tensor:
    """The mean loss by `lens_loss`, and its gradient in ``x`` and ``inv_tau``."""
    loss = lens_loss(*inputs).kl_nats.mean()
    loss.backward()
    return loss.detach()


def naive(inputs: LossInputs) -> Tensor:
    """The same with torch's log_softmax and kl_div on the logits of all rows and positions."""
    x, final_x, inv_tau, head = inputs
    with torch.no_grad():
        log_p = log_softmax((final_x.to(head.weight.dtype) @ head.weight.T).float(), dim=-1)
    logits = (x.to(head.weight.dtype) @ head.weight.T).float() * inv_tau[:, None, None]
    log_q = log_softmax(logits, dim=-1)
    loss = kl_div(log_q, log_p.expand_as(log_q), reduction="none", log_target=True).sum(dim=-1).mean()
    loss.backward()
    return loss.detach()


LOSSES: dict[str, Callable[[LossInputs], Tensor]] = {"fused": fused, "naive": naive}


def measure_times(
    setting: LossSetting, vocab: int, device: torch.device, dtype: torch.dtype, repeats: int, clock: Clock
) -> LossTime:
    """Time both losses and the matrix products alternately."""
    inputs = make_inputs(setting, vocab, device, dtype)
    pairs = setting.rows * setting.positions
    plain = products(pairs, setting.d_head, vocab, dtype, device)
    variants: dict[str, Callable[[], object]] = {product.name: product.work(device) for product in plain}
    for name, loss in LOSSES.items():
        variants[name] = _fresh(loss, inputs)
    counted = {name: count_flop(variants[name]) for name in LOSSES}
    times = alternate(variants, repeats, device, clock=clock)
    peak = max(peaks_flop_per_s(plain, times).values())
    seconds = {name: median(times[name]) for name in LOSSES}
    return LossTime(
        vocab,
        pairs,
        seconds["fused"],
        seconds["naive"],
        ratio(times, "naive", "fused"),
        counted["fused"],
        counted["naive"],
        peak,
        4 * setting.d_head * vocab * pairs / seconds["fused"] / peak,
    )


def _fresh(loss: Callable[[LossInputs], Tensor], inputs: LossInputs) -> Callable[[], object]:
    def work() -> None:
        inputs.x.grad = inputs.inv_tau.grad = None
        loss(inputs)

    return work
