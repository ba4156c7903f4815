"""The beginning of a report: every sentence against the JSON of the run."""

import re
import statistics
from pathlib import Path
from typing import Any

from logos_pl.artifacts.fingerprint import Movement
from logos_pl.artifacts.transfer import Transfer
from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.sweeps.report_brief import FEW_PROMPTS, counted
from tests.sweeps.report_text import evaluation, lines_of, section
from tests.sweeps.swept import load, random_prompt, report_input, sweep, write


def brief(facts: Any) -> str:
    return section(evaluation(facts), "In short")


def test_the_table_has_median_share_range_and_count_of_every_lens(tmp_path: Path) -> None:
    facts = sweep(count=6)
    write(facts, tmp_path)
    diagnostics = load(tmp_path / facts.files["json"])["diagnostics"]
    lines = lines_of(brief(facts))
    assert [line["lens"] for line in lines] == ["norm lens", "tuned lens"]
    keys = {
        "answer at rank ≤ 10": "first_rank_le_10",
        "answer at rank 1": "first_rank_le_1",
        "KL < 1 bit": "first_kl_below_1.0",
    }
    for line, lens in zip(lines, ("norm", "tuned"), strict=True):
        for heading, key in keys.items():
            rows = [of["milestones"][lens][key]["row"] for of in diagnostics]
            there = [row for row in rows if row is not None]
            middle = statistics.median(there)
            extent = f"{min(there)}–{max(there)}; {len(there)} of {len(rows)}"
            assert line[heading] == f"{middle:g} ({middle / 8:.0%}; {extent})"


def test_what_was_asked_and_answered_is_counted(tmp_path: Path) -> None:
    facts = sweep(count=6)
    write(facts, tmp_path)
    finals = [of for of in load(tmp_path / facts.files["json"])["final_prediction"] if of["answer_rank"] is not None]
    first = sum(of["answer_rank"] == 1 for of in finals)
    said = brief(facts)
    assert "**Asked:** 16 prompts " in said
    assert "14 with an expected answer" in said
    assert f"puts the answer first after {first} of {len(finals)} " in said
    low, high = (f(of["p_answer"] for of in finals) for f in (min, max))
    assert f"its probability is {low:.3f} to {high:.3f} " in said


def test_what_to_distrust_is_counted(tmp_path: Path) -> None:
    facts = sweep(count=6)
    write(facts, tmp_path)
    document = load(tmp_path / facts.files["json"])
    said = brief(facts).split("**What to distrust**")[1]
    diagnostics = document["diagnostics"]
    high = sum(of["raw_versus_norm"]["lens_artifact_risk"] == "high" for of in diagnostics)
    warned = sum(of["last_row"]["warn_high_last_layer_kl"] for of in diagnostics)
    wrong = [of["answer_rank"] for of in document["final_prediction"] if of["answer_rank"] is not None]
    assert f"After {high} of {len(diagnostics)} prompts the norm lens reads differently" in said
    assert f"After {warned} of {len(diagnostics)} prompts the last row is not" in said
    assert f"After {sum(rank > 1 for rank in wrong)} of {len(wrong)} prompts the model itself does not" in said
    assert "After 1 of 16 prompts some logits are not finite" in said
    assert "1 answer could not be resolved" in said
    assert "The tuned lens has not passed all gates" in said
    for lens in ("norm", "tuned"):
        copied = sum(of["milestones"][lens]["L_copy"]["row"] is not None for of in diagnostics)
        assert f"Under the {lens} lens, {copied} of {len(diagnostics)} prompts have a row that copies" in said


def sound(i: int) -> Any:
    """A prompt at which no check finds anything."""
    record = random_prompt(i, Prompt(f"p{i}", "orig", f"Text {i}", "Berlin"), lenses=("norm",))
    rows = [
        row._replace(copy_collapse=False, answer_rank=1, is_answer=True, identity_row=False)
        for row in record.next_token["norm"]
    ]
    pairs = tuple(
        pair._replace(kl_bits=0.0, top1_agree=True, answer_rank_a=1, answer_rank_b=1) for pair in record.norm_to_raw
    )
    last = record.last_row._replace(kl_to_final_bits=0.0)
    return record._replace(next_token={"norm": rows}, norm_to_raw=pairs, last_row=last)


def test_a_run_without_reservations_says_so_and_a_short_one_does_not() -> None:
    many = brief(report_input([sound(i) for i in range(FEW_PROMPTS)], lenses=("norm",)))
    assert many.split("**What to distrust**\n\n")[1] == "- No check found a problem.\n"
    few = brief(report_input([sound(i) for i in range(FEW_PROMPTS - 1)], lenses=("norm",)))
    assert f"- Few prompts: with {FEW_PROMPTS - 1}," in few


def test_a_lens_of_another_model_is_distrusted_with_how_far_the_model_has_moved() -> None:
    moved = Movement(True, True, 0.125, 2, [0.0, 0.1, 0.125], 0.5, 7, 16)
    transfer = Transfer("org/a_base", "a" * 40, "org/tuned", "b" * 40, moved, {}, "demo")
    said = brief(sweep()._replace(transfers={"tuned": transfer})).split("**What to distrust**")[1]
    assert r"- The tuned lens was fitted on org/a\_base at aaaaaaaaaaaa and is read with org/tuned at bb" in said
    assert "norms differ by 12.5% (row 2), the logits by 50.0%, and 7 of the 16 likeliest" in said
    assert "was fitted on" not in brief(sweep())


def test_a_preferred_lens_is_not_distrusted() -> None:
    assert "has not passed all gates" not in brief(sweep()._replace(preferred_lens="tuned"))


def test_without_answers_or_prompts_the_report_begins_with_that() -> None:
    record = random_prompt(0, Prompt("merged", "orig", "Odd", "ly"), AnswerTokens("unresolved"), ("norm",))
    assert "no answer can be ranked" in brief(report_input([record], lenses=("norm",)))
    assert brief(report_input([])) == "\nNo prompt was read.\n"


def test_pictures_stand_in_the_sections_that_they_belong_to() -> None:
    names = ("output-demo-kl.png", "output-demo-rank.png", "output-demo-tokens.png")
    report = evaluation(sweep()._replace(pictures=names))
    assert re.findall(r"!\[[^\]]+\]\(([^)]+)\)", brief(sweep()._replace(pictures=names))) == ["output-demo-tokens.png"]
    assert "(output-demo-rank.png)" in section(report, "Where does the answer appear?")
    assert "(output-demo-kl.png)" in section(report, "How close is each row to the model's output?")
    assert "![" not in evaluation(sweep())


def test_a_number_has_its_noun() -> None:
    assert [counted(n, "row") for n in (0, 1, 2, 0.5)] == ["0 rows", "1 row", "2 rows", "0.5 rows"]
