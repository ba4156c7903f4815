"""The report's tables of divergence, entropy and cosine at fractions of the depth, and of tuned against norm lens."""

import math
from collections.abc import Mapping, Sequence
from statistics import median

from logos_pl.analysis.markdown import cite, code, escaped, number, table
from logos_pl.analysis.milestones import milestones
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.records import NextTokenRecord, PromptRecords

MEASURES = ("kl_to_final_bits", "kl_from_final_bits", "entropy_bits", "cos_to_final")
RANKS = (10, 5, 1)


def next_token_file(files: Mapping[str, str], lens: str) -> str:
    """Name of the CSV of a lens's rows after the prompt."""
    return files["pure-next-token" + ("" if lens == "norm" else f"-{lens}")]


def lenses_of(records: Sequence[PromptRecords]) -> list[str]:
    """Lenses that have read any of the prompts, in order."""
    return list(dict.fromkeys(lens for record in records for lens in record.next_token))


def depth_rows(num_blocks: int) -> dict[int, int]:
    """The row at 0, 25, 50, 75 and 100% of the depth, by percentage; a model of one block has but the ends."""
    inner = depth_percentile_rows(num_blocks) if num_blocks >= 2 else {}
    return {0: 0, **inner, 100: num_blocks}


def finite_median(values: Sequence[float | None]) -> tuple[float | None, int]:
    """The median of what is there and finite, and of how many values it is."""
    there = [value for value in values if value is not None and math.isfinite(value)]
    return (float(median(there)) if there else None), len(there)


def depth_table(records: Sequence[PromptRecords], lens: str, num_blocks: int, file: str) -> str:
    """One lens at five depths: the first prompt, and where there are more, the median over all."""
    read = [record for record in records if lens in record.next_token]
    lines = []
    for percent, row in depth_rows(num_blocks).items():
        line = read[0].next_token[lens][row]
        place = (f"prompt_id {line.prompt_id}", f"prompt_variant {line.prompt_variant}", f"layer {row}")
        of = f"{escaped(line.prompt_id)} ({escaped(line.prompt_variant)})"
        cells = [number(getattr(line, measure)) for measure in MEASURES]
        lines.append([of, f"{percent}%", str(row), *cells, cite(file, *place)])
    for percent, row in depth_rows(num_blocks).items() if len(read) > 1 else ():
        at = [record.next_token[lens][row] for record in read]
        lines.append([f"median of {len(read)}", f"{percent}%", str(row), *row_medians(at), cite(file, f"layer {row}")])
    return table(["prompt", "depth", "row", *map(code, MEASURES), "source"], lines)


def row_medians(rows: Sequence[NextTokenRecord]) -> list[str]:
    """The median of each of `MEASURES`, with the number of finite values where they are not all."""
    cells = []
    for measure in MEASURES:
        value, count = finite_median([getattr(row, measure) for row in rows])
        cells.append(number(value) + ("" if count == len(rows) else f" (of {count})"))
    return cells


def tuned_against_norm(records: Sequence[PromptRecords], num_blocks: int, files: Mapping[str, str]) -> str:
    """By how many bits and rows the tuned lens is ahead, medians over prompts; empty without it or with one block."""
    both = [record.next_token for record in records if {"norm", "tuned"} <= record.next_token.keys()]
    if not both or num_blocks < 2:
        return ""
    place = f"{next_token_file(files, 'norm')} minus {next_token_file(files, 'tuned')}"
    lines = []
    for percent, row in depth_percentile_rows(num_blocks).items():
        for measure in MEASURES[:2]:
            gaps = [getattr(of["norm"][row], measure) - getattr(of["tuned"][row], measure) for of in both]
            value, count = finite_median(gaps)
            source = cite(place, measure, f"layer {row}")
            lines.append([f"{code(measure)} at {percent}% (row {row})", number(value), str(count), source])
    for rank in RANKS:
        value, count = finite_median([_earlier_rows(of["norm"], of["tuned"], rank) for of in both])
        source = cite(place, f"first layer with answer_rank ≤ {rank}")
        rows = "–" if value is None else f"{value:g}"
        lines.append([f"rows until the answer is at rank ≤ {rank}", rows, str(count), source])
    return table(["norm minus tuned, median over prompts", "value", "prompts", "source"], lines)


def _earlier_rows(norm: Sequence[NextTokenRecord], tuned: Sequence[NextTokenRecord], rank: int) -> int | None:
    """How many rows earlier the tuned lens has the answer; None unless the model itself ends at that rank or better."""
    final = norm[-1].answer_rank
    firsts = [getattr(milestones(rows), f"first_rank_le_{rank}") for rows in (norm, tuned)]
    return None if final is None or final > rank or None in firsts else firsts[0] - firsts[1]
