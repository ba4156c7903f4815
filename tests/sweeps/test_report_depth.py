import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from logos_pl.data.prompt_types import Prompt
from tests.sweeps.made_records import prompt_records
from tests.sweeps.report_text import CITATION, CLOSENESS, evaluation, keyed, lines_of, section
from tests.sweeps.swept import csv_lines, report_input, sweep, write


def test_the_medians_over_depth_are_those_of_the_cited_column_and_layer(tmp_path: Path) -> None:
    facts = sweep()
    write(facts, tmp_path)
    medians = [line for line in lines_of(section(evaluation(facts), CLOSENESS)) if "median" in line.get("prompt", "")]
    assert len(medians) == 10
    for line in medians:
        ((file, place),) = CITATION.findall(line["source"])
        for key, cell in keyed(line).items():
            values = [float(found[key]) for found in csv_lines(tmp_path / file, [place])]
            assert float(cell) == pytest.approx(statistics.median(values), abs=0.0006)


def test_tuned_against_norm_is_the_median_of_the_differences_of_two_columns(tmp_path: Path) -> None:
    facts = sweep()
    write(facts, tmp_path)
    checked = 0
    for line in lines_of(evaluation(facts)):
        found = re.fullmatch(r"`\[(\S+) minus (\S+): (\w+), layer (\d+)\]`", line["source"])
        if found is None:
            continue
        norm, tuned, key, row = found.groups()
        columns = [[float(at[key]) for at in csv_lines(tmp_path / file, [f"layer {row}"])] for file in (norm, tuned)]
        differences = [a - b for a, b in zip(*columns, strict=True)]
        assert float(line["value"]) == pytest.approx(statistics.median(differences), abs=0.0006)
        assert int(line["prompts"]) == len(differences)
        checked += 1
    assert checked == 6


def test_a_prompt_whose_answer_the_model_does_not_find_says_nothing_of_earliness() -> None:
    def rows(first: int, final: int) -> dict[int, dict[str, object]]:
        return {row: {"answer_rank": final if row == 8 else 3 if row >= first else 90} for row in range(9)}

    def read(prompt_id: str, norm: int, tuned: int, final: int) -> Any:
        changes = {"norm": rows(norm, final), "tuned": rows(tuned, final)}
        return prompt_records(
            {"norm": [1.0] * 9, "tuned": [1.0] * 9}, prompt=Prompt(prompt_id, "orig", "x", "y"), rows=changes
        )

    facts = report_input([read("a", 7, 2, 4), read("b", 6, 3, 5), read("c", 8, 0, 11)])

    early = {
        line["norm minus tuned, median over prompts"]: line for line in lines_of(evaluation(facts)) if "value" in line
    }
    assert (
        early["rows until the answer is at rank ≤ 5"]["value"],
        early["rows until the answer is at rank ≤ 5"]["prompts"],
    ) == ("4", "2")
    assert early["rows until the answer is at rank ≤ 1"]["value"] == "–"


def test_a_model_of_one_block_has_no_inner_depth() -> None:
    record = prompt_records({"norm": [3.0, 0.0], "tuned": [2.0, 0.0]})

    depths = [line["depth"] for line in lines_of(section(evaluation(report_input([record], num_blocks=1)), CLOSENESS))]
    assert depths == ["0%", "100%"] * 2


def test_the_five_depths_are_the_percentile_rows() -> None:
    lines = lines_of(section(evaluation(sweep(count=0)), CLOSENESS))

    assert [(line["depth"], line["row"]) for line in lines[:5]] == [
        ("0%", "0"), ("25%", "2"), ("50%", "4"), ("75%", "6"), ("100%", "8"),
    ]  # fmt: skip
