"""KPIs of the gates with bootstrap intervals. Source: docs/method.md §6."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from logos_pl.functional.bootstrap import Interval, Statistic, bootstrap_interval
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.gates.measurements import (
    DECIDES,
    RANKS,
    PromptMeasurements,
    TextMeasurements,
    check,
    qualifies,
    sort,
    text_is_finite,
)
from logos_pl.kinds.registry import baselines, kind_of

SUITE, TEXT = "suite", "held_out_text"


class DeltaKl(NamedTuple):
    """Median ΔKL over a baseline in bits; positive if the lens is closer to the model.

    Attributes:
        to_final: For KL(P_row ‖ P_final), which the gates use.
        from_final: For KL(P_final ‖ P_row), for comparison.
    """

    to_final: Interval
    from_final: Interval

    @property
    def signs_agree(self) -> bool:
        """Whether both medians are above, at, or below 0."""
        a, b = self.to_final.estimate, self.from_final.estimate
        return (a > 0) == (b > 0) and (a < 0) == (b < 0)


DeltaByDepth = dict[int, DeltaKl | None]
"""By depth percentile; None without samples."""


class Earliness(NamedTuple):
    """By how many rows a lens finds an answer earlier than the norm lens.

    Attributes:
        shift: First row of the norm lens minus first row of the evaluated lens.
        largest: Largest possible shift: a lens cannot find an answer before its first row with a translator (row 1 for
            a tuned lens), nor earlier than the norm lens if that finds it before this row.
    """

    shift: int
    largest: int


class Kpis(NamedTuple):
    """KPIs of a lens; an interval without samples is None.

    Attributes:
        num_blocks: Number n of blocks.
        num_prompts: Prompts in the suite.
        num_used: Prompts that are resolved and have only finite values.
        num_sequences: Sequences of held-out text.
        median_delta_kl_bits: By baseline, by `SUITE` or `TEXT`, by depth percentile.
        gain_bits: By baseline: median over held-out positions of the ΔKL(P_row ‖ P_final) averaged over the three
            depths.
        earliness_shift: By rank: median shift over prompts whose answer the model itself ranks at least as high.
        last_layer_kl_after_temp_bits: Median over prompts.
        last_layer_kl_after_temp_bits_max: Largest over prompts.
        rank1_coverage_gain: Mean over prompts of the share of rows at rank 1, evaluated lens minus norm lens.
        early: Earliness for ranks 10 and 5, for every prompt whose answer the model itself ranks 5 or better.
        left_out: Prompts excluded from some KPIs, by reason.
        text_is_finite: Whether all values on held-out text are finite.
    """

    num_blocks: int
    num_prompts: int
    num_used: int
    num_sequences: int
    median_delta_kl_bits: dict[str, dict[str, DeltaByDepth]]
    gain_bits: dict[str, Interval | None]
    earliness_shift: dict[int, Interval | None]
    last_layer_kl_after_temp_bits: Interval | None
    last_layer_kl_after_temp_bits_max: float | None
    rank1_coverage_gain: Interval | None
    early: list[tuple[Earliness, Earliness]]
    left_out: dict[str, list[str]]
    text_is_finite: bool


def first_row_within(ranks: Sequence[int | None], rank: int) -> int:
    """First row that is read where the answer's rank is at most ``rank``; n + 1 if there is none.

    With an exact head, row n equals the model, so a row is found whenever the model's own rank qualifies, except for
    ties broken by rounding.
    """
    return next((row for row, found in enumerate(ranks) if found is not None and found <= rank), len(ranks))


def earliness(prompt: PromptMeasurements, rank: int, lens: str = DECIDES) -> Earliness:
    """Earliness of a lens at a prompt.

    Raises:
        ValueError: If the prompt's answer is not resolved.
    """
    norm, evaluated = (first_row_within(_ranks(prompt, name), rank) for name in ("norm", lens))
    first_row = kind_of(lens).first_row
    assert first_row is not None, "the norm lens has no gates"
    first_read = next(row for row, found in enumerate(_ranks(prompt, lens)) if found is not None)
    return Earliness(norm - evaluated, max(norm - max(first_row, first_read), 0))


def measure(
    prompts: Sequence[PromptMeasurements], text: TextMeasurements, num_blocks: int, lens: str = DECIDES
) -> Kpis:
    """Compute all KPIs of a lens.

    Prompts with an unresolved answer or a non-finite value are excluded from all KPIs; prompts without an answer are
    excluded from those that need it. `Kpis.left_out` names them.

    Args:
        prompts: Measurements of the suite.
        text: Measurements on held-out text, possibly of no position.
        num_blocks: Number n of blocks.
        lens: Lens to evaluate.

    Raises:
        ValueError: If a lens or a row is missing.
    """
    check(prompts, text, num_blocks, lens)
    used, answered, left_out = sort(prompts, lens)
    last = [prompt.last_layer_kl_after_temp_bits for prompt in used]
    early = {rank: [earliness(p, rank, lens) for p in answered if qualifies(p, rank)] for rank in RANKS}
    ok = text_is_finite(text, lens)
    return Kpis(
        num_blocks=num_blocks,
        num_prompts=len(prompts),
        num_used=len(used),
        num_sequences=len(text.sequences.unique()),
        median_delta_kl_bits={
            baseline: {
                SUITE: _suite_delta(used, baseline, lens, num_blocks),
                TEXT: _text_delta(text, baseline, lens, num_blocks) if ok else dict.fromkeys(_depths(num_blocks)),
            }
            for baseline in baselines()
        },
        gain_bits={baseline: _gain(text, baseline, lens) if ok else None for baseline in baselines()},
        earliness_shift={rank: interval([float(e.shift) for e in shifts]) for rank, shifts in early.items()},
        last_layer_kl_after_temp_bits=interval(last),
        last_layer_kl_after_temp_bits_max=max(last, default=None),
        rank1_coverage_gain=interval([_coverage_gain(prompt, lens) for prompt in answered], "mean"),
        early=[(earliness(p, 10, lens), earliness(p, 5, lens)) for p in answered if qualifies(p, 5)],
        left_out=left_out,
        text_is_finite=ok,
    )


def interval(samples: Sequence[float], statistic: Statistic = "median") -> Interval | None:
    """Statistic of independent samples with its bootstrap interval; None without samples."""
    return bootstrap_interval(_fp64(samples), statistic)


def _fp64(numbers: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def _nan_where_unread(figures: Sequence[float | None]) -> list[float]:
    return [math.nan if figure is None else figure for figure in figures]


def _depths(num_blocks: int) -> dict[int, int]:
    """Row at each depth percentile."""
    return depth_percentile_rows(num_blocks)


def _delta(to_final: Tensor, from_final: Tensor, clusters: Tensor | None) -> DeltaKl | None:
    a = bootstrap_interval(to_final, "median", clusters=clusters)
    b = bootstrap_interval(from_final, "median", clusters=clusters)
    return None if a is None or b is None else DeltaKl(a, b)


def _suite_delta(prompts: Sequence[PromptMeasurements], baseline: str, lens: str, num_blocks: int) -> DeltaByDepth:
    """ΔKL over the prompts, resampled by prompt."""

    def of(name: str) -> tuple[Tensor, Tensor]:
        figures = [prompt.lenses[name] for prompt in prompts]
        to_final = [_nan_where_unread(of.kl_to_final_bits) for of in figures]
        from_final = [_nan_where_unread(of.kl_from_final_bits) for of in figures]
        shape = (len(prompts), num_blocks + 1)
        return _fp64(to_final).view(shape), _fp64(from_final).view(shape)

    to_final, from_final = (base - value for base, value in zip(of(baseline), of(lens), strict=True))
    return {depth: _delta(to_final[:, row], from_final[:, row], None) for depth, row in _depths(num_blocks).items()}


def _text_differences(text: TextMeasurements, baseline: str, lens: str) -> tuple[Tensor, Tensor]:
    """ΔKL in both directions at every percentile and position, in fp64."""
    to_final, from_final = (
        values[baseline].double() - values[lens].double() for values in (text.kl_to_final_bits, text.kl_from_final_bits)
    )
    return to_final, from_final


def _text_delta(text: TextMeasurements, baseline: str, lens: str, num_blocks: int) -> DeltaByDepth:
    """ΔKL over positions of text, resampled by sequence."""
    to_final, from_final = _text_differences(text, baseline, lens)
    return {
        depth: _delta(to_final[slot], from_final[slot], text.sequences)
        for slot, depth in enumerate(_depths(num_blocks))
    }


def _gain(text: TextMeasurements, baseline: str, lens: str) -> Interval | None:
    return bootstrap_interval(_text_differences(text, baseline, lens)[0].mean(0), "median", clusters=text.sequences)


def _coverage_gain(prompt: PromptMeasurements, lens: str) -> float:
    """Share of the rows that a lens reads at which it has the answer at rank 1, minus that share for the norm lens."""
    ranks = list(zip(_ranks(prompt, lens), _ranks(prompt, "norm"), strict=True))
    read = [pair for pair in ranks if pair[0] is not None]
    of_lens, of_norm = (sum(pair[which] == 1 for pair in read) / len(read) for which in (0, 1))
    return of_lens - of_norm


def _ranks(prompt: PromptMeasurements, name: str) -> Sequence[int | None]:
    ranks = prompt.lenses[name].answer_rank
    if ranks is None:
        raise ValueError(f"prompt {prompt.prompt_id} has no resolved answer.")
    return ranks
