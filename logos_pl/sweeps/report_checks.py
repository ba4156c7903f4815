"""Sections of the report on copy collapse, filler ablation, controls and decoding checks, as Markdown."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from logos_pl.io.markdown import code, escaped, number, table
from logos_pl.sweeps.document_summaries import ablation_summary, control_summary
from logos_pl.sweeps.records import COPY_THRESHOLDS, SOFT_WINDOWS
from logos_pl.sweeps.report_input import LISTED_PROMPTS, ReportInput, median_of, name_of

MAX_LINES = 3 * LISTED_PROMPTS
"""Most lines in a table with one line per prompt and lens."""


def copies(e: ReportInput) -> str:
    """Number of prompts that each lens copies, and first rows."""
    keys = ["L_copy", *(f"L_copy_soft.{k}" for k in SOFT_WINDOWS), *(f"L_copy_at.{p:.2f}" for p in COPY_THRESHOLDS)]
    counts, rows = [], []
    for lens in e.swept.lenses:
        of = list(map(_copy_rows, e.milestones(lens)))
        reached = [str(sum(at[i] is not None for at in of)) for i in range(len(keys))]
        counts.append([f"{lens}: prompts, of {len(of)}", *reached, e.cite("diagnostics", f"milestones.{lens}")])
        for name, at, place in e.listed("milestones"):
            if lens in at and any(row is not None for row in _copy_rows(at[lens])):
                cells = map(number, _copy_rows(at[lens]))
                rows.append([f"{lens}: {name}, row", *cells, e.cite(f"{place}.{lens}")])
    identity = any(prompt.identity_row for prompt in e.swept.summaries)
    said = "Row 0 is the identity of a tied embedding and is not counted as a copy.\n\n" if identity else ""
    return said + table(["lens", *map(code, keys), "source"], counts + rows)


def _copy_rows(at: dict[str, Any]) -> list[int | None]:
    depths = [at["L_copy"], *at["L_copy_soft"].values(), *at["L_copy_at"].values()]
    return [depth["row"] for depth in depths]


def ablation(e: ReportInput) -> str:
    """Effect of removing the filler; differences are without − with."""
    entries = ablation_summary(e.swept.summaries)
    if not entries:
        return "No prompt was read both with and without its filler.\n"
    keys = [
        f"{name}{suffix}" if suffix else f"delta_{name}"
        for name in ("L_copy", "L_semantic")
        for suffix in ("_orig", "_no_filler", "")
    ]
    rows = [
        [
            escaped(entry["prompt_id"]),
            entry["lens"],
            *(number(entry[key]) for key in keys),
            e.cite(f"ablation_summary[{i}]"),
        ]
        for i, entry in enumerate(entries[:MAX_LINES])
    ]
    rows += _medians(e, entries, keys, "ablation_summary")
    return table(["prompt", "lens", *map(code, keys), "source"], rows)


def control(e: ReportInput) -> str:
    """First row where the answer of a control is more likely than its contrast."""
    entries = control_summary(e.swept.summaries)
    if not entries:
        return "No control prompt was read.\n"
    keys = ["first_control_margin_pos", "max_control_margin", "max_control_margin_layer"]
    rows = [
        [name_of(entry), entry["lens"], *(number(entry[key]) for key in keys), e.cite(f"control_summary[{i}]")]
        for i, entry in enumerate(entries[:MAX_LINES])
    ]
    rows += _medians(e, entries, keys, "control_summary")
    return table(["prompt", "lens", *map(code, keys), "source"], rows)


def _medians(e: ReportInput, entries: Sequence[dict[str, Any]], keys: Sequence[str], section: str) -> list[list[str]]:
    """Lines with the medians of each lens, for the end of a table by prompt and lens."""
    lines = []
    for lens in e.swept.lenses:
        of = [entry for entry in entries if entry["lens"] == lens]
        if len(of) > 1:
            medians = [median_of([entry[key] for entry in of]) for key in keys]
            lines.append([f"median (available for, of {len(of)})", lens, *medians, e.cite(section, f"lens {lens}")])
    return lines


def raw(e: ReportInput) -> str:
    """Comparison of norm lens and raw lens."""
    keys = ["mode", "max_kl_norm_vs_raw_bits", "first_norm_only_semantic_layer", "lens_artifact_risk"]
    risks = Counter(diagnostic["raw_versus_norm"]["lens_artifact_risk"] for diagnostic in e.swept.diagnostics)
    said = ", ".join(f"{risks[risk]} {risk}" for risk in ("low", "medium", "high"))
    rows = [[name, *(_cell(at[key]) for key in keys), e.cite(place)] for name, at, place in e.listed("raw_versus_norm")]
    where = e.cite("diagnostics", "raw_versus_norm.lens_artifact_risk")
    return f"Risk that the reading is an artefact of the norm, prompts: {said} {where}.\n\n" + table(
        ["prompt", *map(code, keys), "source"], rows
    )


def _cell(value: float | str | None) -> str:
    return value if isinstance(value, str) else number(value)


def decoding(e: ReportInput) -> str:
    """Comparison of the final norm with the norm of the next block, at milestone rows of the norm lens."""
    found = [
        (row["kl_final_to_next_bits"], i, k)
        for i, diagnostic in enumerate(e.swept.diagnostics)
        for k, row in enumerate(diagnostic["decoding_point"]["rows"] or ())
        if math.isfinite(row["kl_final_to_next_bits"])
    ]
    if not found:
        reasons = filter(
            None, dict.fromkeys(diagnostic["decoding_point"]["reason"] for diagnostic in e.swept.diagnostics)
        )
        return (" ".join(reasons) or "Nothing finite was read.") + "\n"
    largest, i, k = max(found, key=lambda place: place[0])
    where = e.cite(f"diagnostics[{i}].decoding_point.rows[{k}].kl_final_to_next_bits")
    first = found[0][1]
    name = name_of(e.swept.diagnostics[i])
    return (
        f"Largest KL(final ‖ next) at a milestone row: {number(largest)} bits, {name} {where}. "
        f"Below: {name_of(e.swept.diagnostics[first])}.\n\n{_decoding_table(e, first)}"
    )


def _decoding_table(e: ReportInput, i: int) -> str:
    ranks = ("answer_rank_final", "answer_rank_next")
    keys = ("layer", "milestones", "kl_final_to_next_bits", "top1_agree", "top10_jaccard", *ranks)
    lines = [
        [*(_list(row[key]) for key in keys), e.cite(f"diagnostics[{i}].decoding_point.rows[{k}]")]
        for k, row in enumerate(e.swept.diagnostics[i]["decoding_point"]["rows"])
    ]
    return table([*map(code, keys), "source"], lines)


def _list(value: float | Sequence[str] | None) -> str:
    return number(value) if isinstance(value, int | float | None) else ", ".join(map(escaped, value))


def last_row(e: ReportInput) -> str:
    """Comparison of the last row with the model's output."""
    keys = ["kl_to_final_bits", "top1_agree", "temp_est", "kl_after_temp_bits", "warn_high_last_layer_kl"]
    warned = sum(diagnostic["last_row"]["warn_high_last_layer_kl"] for diagnostic in e.swept.diagnostics)
    where = e.cite("diagnostics", "last_row.warn_high_last_layer_kl")
    rows = [[name, *(number(at[key]) for key in keys), e.cite(place)] for name, at, place in e.listed("last_row")]
    return f"Warnings of a high last-row KL: {warned} of {len(e.swept.diagnostics)} prompts {where}.\n\n" + table(
        ["prompt", *map(code, keys), "source"], rows
    )


def nonfinite(e: ReportInput) -> str:
    """Places with non-finite logits."""
    keys = ["lens", "layer", "first_pos", "num_positions"]
    rows = [
        [name_of(diagnostic), *(_cell(place[key]) for key in keys), e.cite(f"diagnostics[{i}].nonfinite[{k}]")]
        for i, diagnostic in enumerate(e.swept.diagnostics)
        for k, place in enumerate(diagnostic["nonfinite"])
    ]
    if not rows:
        return f"None: every logit of every lens is finite {e.cite('diagnostics', 'nonfinite')}.\n"
    more = f"\n{len(rows) - MAX_LINES} more {e.cite('diagnostics', 'nonfinite')}.\n" if len(rows) > MAX_LINES else ""
    return table(["prompt", *map(code, keys), "source"], rows[:MAX_LINES]) + more
