from typing import Any

from logos_pl.data.prompt_types import Prompt
from logos_pl.sweeps.report_input import LISTED_PROMPTS
from tests.sweeps.made_records import prompt_records
from tests.sweeps.report_text import evaluation, lines_of, section
from tests.sweeps.swept import report_input, sweep


def test_milestones_are_summed_up_over_all_prompts() -> None:
    def read(prompt_id: str, row: int | None) -> Any:
        rank = {} if row is None else {row: {"answer_rank": 1, "is_answer": True}}
        return prompt_records({"norm": [1.5] * 9}, prompt=Prompt(prompt_id, "orig", "x", "y"), rows={"norm": rank})

    facts = report_input([read("a", 3), read("b", 6), read("c", None)])

    last = lines_of(section(evaluation(facts), "Where does the answer appear?"))[-1]
    assert last["prompt"] == "median row (reached by, of 3)"
    assert last["`L_semantic`"] == "4.5 (2)"
    assert last["`L_copy`"] == "– (0)"


def test_of_many_prompts_the_first_are_listed() -> None:
    report = evaluation(sweep(count=30))

    assert f"Tables list the first {LISTED_PROMPTS}." in report
    assert len(lines_of(section(report, "What was asked?"))) == LISTED_PROMPTS
    assert len(lines_of(section(report, "Is the last row the model's own output?"))) == LISTED_PROMPTS
    assert len(report.splitlines()) < 400
    assert "Tables list" not in evaluation(sweep(count=1))


def test_a_lens_that_read_only_some_prompts_is_reported_for_those() -> None:
    some = prompt_records({"norm": [1.0] * 9, "tuned": [0.5] * 9})
    other = prompt_records({"norm": [1.0] * 9}, prompt=Prompt("b", "orig", "x", "y"))

    report = evaluation(report_input([other, some]))

    lines = lines_of(section(report, "Where does the answer appear?"))
    assert [line["prompt"] for line in lines if line["lens"] == "tuned"] == ["pos (orig)"]
