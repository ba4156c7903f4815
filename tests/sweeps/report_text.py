"""A report's headings, tables and citations, read back."""

import json
import math
import re
from typing import Any

HEADINGS = [
    "Model and run",
    "Prompts and answers",
    "Final prediction",
    "Milestones",
    "Copy collapse",
    "KL, entropy and cosine at 0/25/50/75/100% depth",
    "Ablation",
    "Control margin",
    "Raw against norm",
    "Decoding point",
    "Last row",
    "Non-finite",
]
CITATION = re.compile(r"`\[(\S+?): ([^`]*)\]`")


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
