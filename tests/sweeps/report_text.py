"""A report's headings, tables and citations, read back."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from logos_pl.sweeps.cross_report import cross_model_report
from logos_pl.sweeps.report import evaluation_report
from logos_pl.sweeps.report_input import ReportInput

CLOSENESS = "How close is each row to the model's output?"
HEADINGS = [
    "In short",
    "What was asked?",
    "What does the model answer?",
    "Where does the answer appear?",
    CLOSENESS,
    "Does a row only copy the prompt?",
    "What does the filler change?",
    "Does the answer depend on the subject?",
    "Is a reading an artefact of the norm?",
    "Does the choice of the norm matter?",
    "Is the last row the model's own output?",
    "Are all logits finite?",
    "Which model, which run?",
    "How to read the tables",
]
FOOTNOTE = re.compile(r"^\[\^(\d+)\]: (.*)\n?", re.MULTILINE)
CITATION = re.compile(r"`\[(\S+?): ([^`]*)\]`")


def with_sources(report: str) -> str:
    """A report with every mark of a footnote replaced by the source that the footnote names, in brackets."""
    sources = dict(FOOTNOTE.findall(report))
    marks = re.findall(r"\[\^(\d+)\]", FOOTNOTE.sub("", report))
    assert set(marks) == set(sources), "marks without a footnote, or footnotes without a mark"
    assert list(dict.fromkeys(marks)) == [str(i + 1) for i in range(len(sources))], "not in order"
    spaced = re.sub(r"(?<=[^ |])\[\^", " [^", FOOTNOTE.sub("", report))
    return re.sub(r"\[\^(\d+)\]", lambda mark: f"`[{sources[mark[1]].strip('`')}]`", spaced)


def evaluation(facts: ReportInput) -> str:
    """The report of one model, with its sources in place."""
    return with_sources(evaluation_report(facts))


def cross_evaluation(sweeps: Sequence[ReportInput]) -> str:
    """The comparison of several models, with its sources in place."""
    return with_sources(cross_model_report(sweeps))


def headings(report: str, level: int = 2) -> list[str]:
    return [line[level + 1 :] for line in report.splitlines() if line.startswith("#" * level + " ")]


def section(report: str, heading: str) -> str:
    return report.split(f"## {heading}\n")[1].split("\n## ")[0]


def lines_of(text: str) -> list[dict[str, str]]:
    """The lines of all tables, by column."""
    found, header = [], None
    for line in text.splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if header is None:
            header = cells
        elif cells[0] != "---":
            assert len(cells) == len(header), line
            found.append(dict(zip(header, cells, strict=True)))
    return found


def shown(value: Any) -> str:
    """How the report would show a value of the JSON; written apart from the code under test."""
    if isinstance(value, dict):
        return "–" if value["row"] is None else f"{value['row']} ({value['frac']:.2f})"
    if isinstance(value, list):
        return re.sub(r"([_\[\]])", r"\\\1", ", ".join(map(str, value or "–")))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def agrees(cell: str, value: Any) -> bool:
    if isinstance(value, float):
        return math.isclose(float(cell), value, rel_tol=0.05, abs_tol=0.0005)
    if isinstance(value, str):
        return cell.replace("\\", "") in (value, json.dumps(value))
    if isinstance(value, list) and cell.startswith('"'):
        return cell == ", ".join(map(json.dumps, value))
    if isinstance(value, dict) and "(" not in cell and cell != "–":
        return cell == str(value["row"])
    return cell == shown(value)


def keyed(line: dict[str, str]) -> dict[str, str]:
    return {header.strip("`"): cell for header, cell in line.items() if header.startswith("`")}
