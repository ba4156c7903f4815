"""Markdown report of a sweep, `evaluation-<model>.md`; every number cites its file and place."""

from collections import Counter
from typing import Any

from logos_pl.io.markdown import code, escaped, number, quoted, table
from logos_pl.kinds.registry import compared
from logos_pl.sweeps import report_checks as checks
from logos_pl.sweeps.report_depth import against_norm, depth_table, next_token_file
from logos_pl.sweeps.report_input import LISTED_PROMPTS, REPORTED_MILESTONES, ReportInput, median_of, name_of

__all__ = ["ReportInput", "evaluation_report"]

NOTHING = "No prompt was read.\n"

MAX_CHARACTERS = 200
"""Characters of a prompt shown in a table; the JSON has the full text."""

HOW_TO_READ = (
    "Rows are 0 … n: row 0 is the input of the first block, row L the residual stream after block L. A milestone is "
    "its row, with its fraction of n; – is what was never reached or does not apply. Medians are over all prompts, "
    "controls and those without filler included, that have a finite value. In a table, a column headed in code is the "
    "column or key of that name in the file and at the place that end the line; a list without an index stands for all "
    "its entries."
)


def evaluation_report(facts: ReportInput) -> str:
    """Return the text of `evaluation-<model>.md`; its sections are always the same."""
    sections = {
        "Model and run": _model,
        "Prompts and answers": _prompts,
        "Final prediction": _final,
        "Milestones": _milestones,
        "Copy collapse": checks.copies,
        "KL, entropy and cosine at 0/25/50/75/100% depth": _depth,
        "Ablation": checks.ablation,
        "Control margin": checks.control,
        "Raw against norm": checks.raw,
        "Decoding point": checks.decoding,
        "Last row": checks.last_row,
        "Non-finite": checks.nonfinite,
    }
    parts = [f"## {heading}\n\n{section(facts)}" for heading, section in sections.items()]
    return "\n".join([f"# Evaluation of {escaped(facts.model_id)}\n\n{HOW_TO_READ}\n", *parts])


def _model(e: ReportInput) -> str:
    num_prompts = len(e.swept.prompts)
    lines = [
        f"Model {escaped(e.model_id)}: {e.num_blocks} transformer blocks {e.cite('model_stats.num_blocks')}.",
        f"Lenses: {', '.join(e.swept.lenses) or 'none'} {e.cite('run.lenses')}.",
        f"Preferred lens: {e.preferred_lens}; summaries use the tuned lens only after it passes all gates "
        f"{e.cite('run.preferred_lens')}.",
        f"Prompts: {num_prompts} {e.cite('run.num_prompts')}."
        + (f" Tables list the first {LISTED_PROMPTS}." if num_prompts > LISTED_PROMPTS else ""),
        f"Commits, device, versions and times are in {code(e.files['json'])}, under {_sections()}.",
        f"Files: {', '.join(code(file) for file in e.files.values())}.",
    ]
    return "".join(f"- {line}\n" for line in lines)


def _sections() -> str:
    """Names of the JSON sections about model, run and lenses."""
    *first, last = map(code, ("model", "run", "model_stats", *(kind.section.key for kind in compared())))
    return f"{', '.join(first)} and {last}"


def _prompts(e: ReportInput) -> str:
    answers = list(e.swept.gold_answer)
    count = Counter(answer["status"] for answer in answers)
    unresolved = [name_of(answer) for answer in answers if answer["status"] == "unresolved"]
    said = (
        f"Answers: {count['resolved']} resolved, {count['unresolved']} unresolved; "
        f"prompts without one: {count['none']} {e.cite('gold_answer', 'status')}.\n\n"
    )
    if unresolved:
        said += (
            f"Unresolved, hence without answer metrics: {', '.join(unresolved)} {e.cite('gold_answer', 'status')}.\n\n"
        )
    listed = zip(answers[:LISTED_PROMPTS], e.swept.prompts[:LISTED_PROMPTS], strict=True)
    rows = [
        [
            name_of(answer), quoted(_begin(prompt["text"])),
            "–" if answer["answer"] is None else quoted(answer["answer"]),
            answer["status"], escaped(answer["variant"] or "–"), number(answer["first_id"]),
            ", ".join(map(quoted, answer["pieces"])) or "–", e.cite(f"gold_answer[{i}]"),
        ]
        for i, (answer, prompt) in enumerate(listed)
    ]  # fmt: skip
    keys = ["`answer`", "`status`", "`variant`", "`first_id`", "`pieces`"]
    return said + table(["prompt", "text", *keys, "source"], rows)


def _begin(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


def _final(e: ReportInput) -> str:
    finals = list(e.swept.final_prediction)
    ranks = [final["answer_rank"] for final in finals if final["answer_rank"] is not None]
    rows = [
        [
            name_of(final), *((quoted(top[0]["token"]), number(top[0]["p"])) if (top := final["top"]) else ("–", "–")),
            *(number(final[key]) for key in ("entropy_bits", "p_answer", "answer_rank", "answer_nll_bits")),
            e.cite(f"final_prediction[{i}]"),
        ]
        for i, final in enumerate(finals[:LISTED_PROMPTS])
    ]  # fmt: skip
    keys = ("top[0].token", "top[0].p", "entropy_bits", "p_answer", "answer_rank", "answer_nll_bits")
    said = (
        f"The model itself puts the answer first after {ranks.count(1)} of {len(ranks)} prompts with a resolved answer"
    )
    return f"{said} {e.cite('final_prediction', 'answer_rank')}.\n\n" + table(
        ["prompt", *map(code, keys), "source"], rows
    )


def _milestones(e: ReportInput) -> str:
    parts = []
    for lens in e.swept.lenses:
        rows = [
            [name, *(_depth_cell(at[lens][key]) for key in REPORTED_MILESTONES), number(at[lens]["delta_layers"]),
             e.cite(f"{place}.{lens}")]
            for name, at, place in e.listed("milestones")
            if lens in at
        ]  # fmt: skip
        of = e.milestones(lens)
        if len(of) > 1:
            reached = [median_of([at[key]["row"] for at in of]) for key in REPORTED_MILESTONES]
            delta = median_of([at["delta_layers"] for at in of])
            name = f"median row (reached by, of {len(of)})"
            rows.append([name, *reached, delta, e.cite("diagnostics", f"milestones.{lens}")])
        keys = [*map(code, REPORTED_MILESTONES), "`delta_layers`"]
        parts.append(f"### Milestones, {lens} lens\n\n" + table(["prompt", *keys, "source"], rows))
    return "\n".join(parts) or NOTHING


def _depth_cell(depth: dict[str, Any]) -> str:
    return "–" if depth["row"] is None else f"{depth['row']} ({depth['frac']:.2f})"


def _depth(e: ReportInput) -> str:
    parts = [
        f"### KL, entropy and cosine, {lens} lens\n\n"
        + depth_table(e.swept.summaries, lens, e.num_blocks, next_token_file(e.files, lens))
        for lens in e.swept.lenses
    ]
    for lens in e.swept.lenses[1:]:
        if gain := against_norm(e.swept.summaries, lens, e.num_blocks, e.files):
            parts.append(f"### {lens.capitalize()} against norm\n\n{gain}")
    return "\n".join(parts) or NOTHING
