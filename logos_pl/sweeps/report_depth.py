"""Report tables of divergence, entropy and cosine at five depths, and of gains over the norm lens."""

import math
from collections.abc import Mapping, Sequence
from statistics import median

from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.io.markdown import cite, code, escaped, number, table
from logos_pl.kinds.registry import LensKind, kind_of
from logos_pl.sweeps.document_summaries import MEASURES, RANKS, PromptSummary, depth_rows


def next_token_file(files: Mapping[str, str], lens: str) -> str:
    """Name of a lens's CSV of next-token records."""
    return files[f"pure-next-token{kind_of(lens).file_suffix}"]


def finite_median(values: Sequence[float | None]) -> tuple[float | None, int]:
    """Median of the finite values, and their number."""
    there = [value for value in values if value is not None and math.isfinite(value)]
    return (float(median(there)) if there else None), len(there)


DEPTH_HEADER = ("lens", "prompt", "depth", "row", *map(code, MEASURES), "source")
"""Columns of `depth_lines`."""


def depth_lines(prompts: Sequence[PromptSummary], lens: str, num_blocks: int, file: str) -> list[list[str]]:
    """Lines of a lens at five depths: the first prompt and, with several prompts, the medians."""
    read = [prompt for prompt in prompts if lens in prompt.at_depths]
    first, lines = read[0], []
    name = f"{escaped(first.prompt_id)} ({escaped(first.variant)})"
    for i, (percent, row) in enumerate(depth_rows(num_blocks).items()):
        place = (f"prompt_id {first.prompt_id}", f"prompt_variant {first.variant}", f"layer {row}")
        values = first.at_depths[lens][i * len(MEASURES) : (i + 1) * len(MEASURES)]
        cells = ["–"] * len(MEASURES) if row in first.unread[lens] else map(number, values)
        lines.append([lens, name, f"{percent}%", str(row), *cells, cite(file, *place)])
    for i, (percent, row) in enumerate(depth_rows(num_blocks).items()) if len(read) > 1 else ():
        medians = depth_medians(read, lens, i)
        lines.append([lens, f"median of {len(read)}", f"{percent}%", str(row), *medians, cite(file, f"layer {row}")])
    return lines


def depth_medians(prompts: Sequence[PromptSummary], lens: str, depth: int) -> list[str]:
    """Medians of `MEASURES`, with the number of finite values if some are not.

    Args:
        prompts: Prompts; those without the lens are skipped.
        lens: Name of the lens.
        depth: Index into `depth_rows`.
    """
    read = [prompt.at_depths[lens] for prompt in prompts if lens in prompt.at_depths]
    cells = []
    for i in range(len(MEASURES)):
        value, count = finite_median([of[depth * len(MEASURES) + i] for of in read])
        cells.append(number(value) + ("" if count == len(read) else f" (of {count})"))
    return cells


def gain_heading(kind: LensKind) -> str:
    """Heading of `against_norm`."""
    return f"What does the {kind.label} gain over the norm lens?"


def against_norm(prompts: Sequence[PromptSummary], lens: str, num_blocks: int, files: Mapping[str, str]) -> str:
    """Table of median gains over the norm lens in bits and rows; empty without the lens or with one block."""
    gains = [prompt.gains[lens] for prompt in prompts if lens in prompt.gains]
    if not gains or num_blocks < 2:
        return ""
    place = f"{next_token_file(files, 'norm')} minus {next_token_file(files, lens)}"
    lines = []
    for percent, row in depth_percentile_rows(num_blocks).items():
        for measure in MEASURES[:2]:
            value, count = finite_median([getattr(gain, measure)[percent] for gain in gains])
            source = cite(place, measure, f"layer {row}")
            lines.append([f"{code(measure)} at {percent}% (row {row})", number(value), str(count), source])
    for rank in RANKS:
        value, count = finite_median([gain.earlier_rows[rank] for gain in gains])
        source = cite(place, f"first layer with answer_rank ≤ {rank}")
        rows = "–" if value is None else f"{value:g}"
        lines.append([f"rows until the answer is at rank ≤ {rank}", rows, str(count), source])
    return table([f"norm minus {lens}, median over prompts", "value", "prompts", "source"], lines)
