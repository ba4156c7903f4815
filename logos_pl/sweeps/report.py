"""Markdown report of a sweep, `evaluation-<model>.md`: a summary, a section per question, sources as footnotes."""

from collections import Counter
from typing import Any

from logos_pl.io.markdown import code, escaped, link, number, quoted, table, with_footnotes
from logos_pl.kinds.registry import compared, kind_of
from logos_pl.sweeps import report_checks as checks
from logos_pl.sweeps.report_brief import in_short
from logos_pl.sweeps.report_depth import DEPTH_HEADER, against_norm, depth_lines, gain_heading, next_token_file
from logos_pl.sweeps.report_input import LISTED_PROMPTS, REPORTED_MILESTONES, ReportInput, median_of, name_of

__all__ = ["ReportInput", "evaluation_report"]

NOTHING = "No prompt was read.\n"

MAX_CHARACTERS = 200
"""Characters of a prompt shown in a table; the JSON has the full text."""

PICTURES_OF = {
    "In short": {"tokens": "Top token of every row and position"},
    "What does the model answer?": {"decomposition": "What each component contributes to the logit of the answer"},
    "Where does the answer appear?": {"rank": "Rank of the answer by row"},
    "How close is each row to the model's output?": {
        "kl": "KL divergence from the model's output by row", "entropy": "Entropy by row", "cosine": "Cosine by row",
    },
}  # fmt: skip
"""Plots by section: ending of the file's name, and what the plot shows."""

HOW_TO_READ = (
    "Rows are 0 … n: row 0 is the input of the first block, row L the residual stream after block L. A milestone is "
    "given as its row, with its fraction of n; – means never reached or not applicable. Medians are over all prompts "
    "with a finite value, including controls and prompts without filler. A column heading in code is the name of the "
    "column or key in the file and at the place given in the line's footnote; a list without an index stands for all "
    "its entries."
)


def evaluation_report(facts: ReportInput) -> str:
    """Return the text of `evaluation-<model>.md`; its sections are always the same."""
    sections = {
        "In short": in_short,
        "What was asked?": _prompts,
        "What does the model answer?": _final,
        "Where does the answer appear?": _milestones,
        "How close is each row to the model's output?": _depth,
        "Does a row only copy the prompt?": checks.copies,
        "What does the filler change?": checks.ablation,
        "Does the answer depend on the subject?": checks.control,
        "Is a reading an artefact of the norm?": checks.raw,
        "Does the choice of the norm matter?": checks.decoding,
        "Is the last row the model's own output?": checks.last_row,
        "Are all logits finite?": checks.nonfinite,
        "Which model, which run?": _model,
    }
    parts = [f"## {heading}\n\n{section(facts)}{_pictures(facts, heading)}" for heading, section in sections.items()]
    title = f"# Evaluation of {escaped(facts.model_id)}\n"
    return with_footnotes("\n".join([title, *parts, f"## How to read the tables\n\n{HOW_TO_READ}\n"]))


def _pictures(e: ReportInput, heading: str) -> str:
    """Plots that belong to a section."""
    endings = PICTURES_OF.get(heading, {})
    shown = [
        f"\n!{link(what, name)}\n"
        for ending, what in endings.items()
        for name in e.pictures
        if name == f"output-{e.clean_model_name}-{ending}.png"
    ]
    return "".join(shown)


def _model(e: ReportInput) -> str:
    num_prompts = len(e.swept.prompts)
    lines = [
        f"Model {escaped(e.model_id)}: {e.num_blocks} transformer blocks {e.cite('model_stats.num_blocks')}.",
        f"Lenses: {', '.join(e.swept.lenses) or 'none'} {e.cite('run.lenses')}.",
        f"Preferred lens: {kind_of(e.preferred_lens).label} {e.cite('run.preferred_lens')}.",
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
    rows = [
        [lens, name, *(_depth_cell(at[lens][key]) for key in REPORTED_MILESTONES), number(at[lens]["delta_layers"]),
         e.cite(f"{place}.{lens}")]
        for lens in e.swept.lenses
        for name, at, place in e.listed("milestones")
        if lens in at
    ]  # fmt: skip
    for lens in e.swept.lenses:
        of = e.milestones(lens)
        if len(of) > 1:
            reached = [median_of([at[key]["row"] for at in of]) for key in REPORTED_MILESTONES]
            delta = median_of([at["delta_layers"] for at in of])
            name = f"median row (reached by, of {len(of)})"
            rows.append([lens, name, *reached, delta, e.cite("diagnostics", f"milestones.{lens}")])
    keys = [*map(code, REPORTED_MILESTONES), "`delta_layers`"]
    return table(["lens", "prompt", *keys, "source"], rows) if rows else NOTHING


def _depth_cell(depth: dict[str, Any]) -> str:
    return "–" if depth["row"] is None else f"{depth['row']} ({depth['frac']:.2f})"


def _depth(e: ReportInput) -> str:
    """Measures at 0, 25, 50, 75 and 100% depth, and gains over the norm lens."""
    lines = [
        line
        for lens in e.swept.lenses
        for line in depth_lines(e.swept.summaries, lens, e.num_blocks, next_token_file(e.files, lens))
    ]
    parts = [table(DEPTH_HEADER, lines)] if lines else []
    for lens in e.swept.lenses[1:]:
        if gain := against_norm(e.swept.summaries, lens, e.num_blocks, e.files):
            parts.append(f"### {gain_heading(kind_of(lens))}\n\n{gain}")
    return "\n".join(parts) or NOTHING
