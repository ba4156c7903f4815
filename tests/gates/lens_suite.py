"""Prompts and held-out text as lenses read them, made up so that every figure can be told by hand."""

from collections.abc import Mapping, Sequence

import torch

from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.gates.measurements import LensMeasurements, PromptMeasurements, TextMeasurements

WORSE_BITS = {"tuned": 0.0, "norm": 1.0, "norm_tau": 0.6, "bias": 0.4}
"""By how many bits a lens is farther from the model than a lens that is genuinely good."""

LENSES = tuple(WORSE_BITS)
BASELINES = LENSES[1:]


def ranks(num_blocks: int, first: Mapping[int, int | None], final: int) -> list[int]:
    """Ranks at rows 0 … n that are first within each rank at the row given for it, and never where it is None."""
    found = [100] * num_blocks + [final]
    for rank in sorted(first, reverse=True):
        row = first[rank]
        if row is not None:
            found[row:num_blocks] = [rank] * (num_blocks - row)
    return found


def prompt(
    name: str = "p",
    *,
    num_blocks: int = 32,
    worse_bits: Mapping[str, float] = WORSE_BITS,
    worse_from_bits: Mapping[str, float] | None = None,
    norm: Sequence[int] | None = None,
    tuned: Sequence[int] | None = None,
    final_rank: int | None = 1,
    status: str = "resolved",
    last: float = 0.0,
) -> PromptMeasurements:
    """One prompt; by default the norm lens finds the answer at row 20 and the tuned lens at row 10."""
    resolved = status == "resolved"
    defaults = {
        "norm": ranks(num_blocks, {1: num_blocks * 5 // 8}, 1),
        "tuned": ranks(num_blocks, {1: num_blocks * 5 // 16}, 1),
    }
    given = {"norm": norm, "tuned": tuned}
    lenses = {}
    for lens in LENSES:
        source = "tuned" if lens == "tuned" else "norm"
        answer = given[source] if given[source] is not None else defaults[source]
        lenses[lens] = LensMeasurements(
            [2.0 + worse_bits[lens]] * num_blocks + [0.0],
            [3.0 + (worse_from_bits or worse_bits)[lens]] * num_blocks + [0.0],
            answer if resolved else None,
        )
    return PromptMeasurements(name, status, final_rank if resolved else None, last, lenses)


def text(
    *,
    num_blocks: int = 32,
    worse_bits: Mapping[str, float] = WORSE_BITS,
    worse_from_bits: Mapping[str, float] | None = None,
    sequences: int = 20,
    per_sequence: int = 8,
    noise_bits: float = 0.05,
) -> TextMeasurements:
    """Positions of text with noise of each lens's own."""
    num = sequences * per_sequence
    generator = torch.Generator().manual_seed(0)
    shape = (len(depth_percentile_rows(num_blocks)), num)

    def figures(by_lens: Mapping[str, float]) -> dict[str, torch.Tensor]:
        return {lens: 2.0 + by_lens[lens] + noise_bits * torch.randn(shape, generator=generator) for lens in LENSES}

    return TextMeasurements(
        torch.arange(num) // per_sequence, figures(worse_bits), figures(worse_from_bits or worse_bits)
    )


def altered(one: PromptMeasurements, lens: str, quantity: str, row: int, value: float) -> PromptMeasurements:
    """The prompt with another value of ``quantity`` at one row of one lens."""
    figures = one.lenses[lens]
    values = list(getattr(figures, quantity))
    values[row] = value
    return one._replace(lenses={**one.lenses, lens: figures._replace(**{quantity: values})})
