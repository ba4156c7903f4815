"""Facts of the demo: subject and answer, one list per relation, read from the tables in scripts/demo_facts."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

TABLES = Path(__file__).resolve().parents[1] / "demo_facts"
WORD_RELATIONS = (
    "opposite", "plural", "past_tense", "comparative", "category", "colour", "young", "workplace", "sound",
)  # fmt: skip


class Fact(NamedTuple):
    """One fact: `relation` of `subject` is `answer`."""

    relation: str
    subject: str
    answer: str


def read_table(name: str) -> Any:
    """Content of one YAML table."""
    return yaml.safe_load((TABLES / f"{name}.yaml").read_text(encoding="utf-8"))


def _country_facts() -> dict[str, list[Fact]]:
    table = read_table("countries")
    columns: list[str] = table["columns"]
    return {
        column: [Fact(column, row[0], row[index]) for row in table["rows"]]
        for index, column in enumerate(columns)
        if column != "country"
    }


def _neighbours(relation: str, cycle: list[str], offset: int) -> list[Fact]:
    return [Fact(relation, item, cycle[(i + offset) % len(cycle)]) for i, item in enumerate(cycle)]


def _number_facts(words: list[str]) -> dict[str, list[Fact]]:
    """Sums of two numbers up to six and differences of numbers up to eight, in words."""
    sums = [Fact("sum", f"{words[x]} plus {words[y]}", words[x + y]) for x in range(1, 7) for y in range(1, 7)]
    differences = [
        Fact("difference", f"{words[x]} minus {words[y]}", words[x - y]) for x in range(1, 9) for y in range(1, x + 1)
    ]
    return {"sum": sums, "difference": differences}


def facts_by_relation() -> dict[str, list[Fact]]:
    """Every fact of the demo, in the order of the tables."""
    words = read_table("words")
    facts = _country_facts()
    facts |= {name: [Fact(name, subject, answer) for subject, answer in words[name].items()] for name in WORD_RELATIONS}
    facts["next_day"] = _neighbours("next_day", words["weekdays"], 1)
    facts["previous_day"] = _neighbours("previous_day", words["weekdays"], -1)
    facts["next_month"] = _neighbours("next_month", words["months"], 1)
    facts["previous_month"] = _neighbours("previous_month", words["months"], -1)
    return facts | _number_facts(words["numbers"])
