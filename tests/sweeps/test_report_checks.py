import math
import re
from pathlib import Path

import pytest

from logos_pl.data.prompt_types import Prompt
from logos_pl.sweeps.records import NonFinite, PromptRecords
from tests.sweeps.made_records import prompt_records
from tests.sweeps.report_text import CITATION, CLOSENESS, evaluation, lines_of, section
from tests.sweeps.swept import load, look_up, report_input, sweep, write


def test_copies_are_counted_over_all_prompts_and_the_identity_row_is_explained() -> None:
    copy = {2: {"copy_collapse": True}, 0: {"copy_collapse": True, "identity_row": True}}
    with_copy = prompt_records({"norm": [1.0] * 9}, rows={"norm": copy})
    without, also_without = (prompt_records({"norm": [1.0] * 9}, prompt=Prompt(name, "orig", "x")) for name in "bc")

    said = section(evaluation(report_input([with_copy, without, also_without])), "Does a row only copy the prompt?")

    counted, where = lines_of(said)
    assert (counted["lens"], counted["`L_copy`"]) == ("norm: prompts, of 3", "1")
    assert (where["lens"], where["`L_copy`"]) == ("norm: pos (orig), row", "2")
    assert "identity" in said
    assert "identity" not in section(evaluation(report_input([without])), "Does a row only copy the prompt?")


def test_what_is_not_finite_is_named_and_counts_for_no_median() -> None:
    rows = {"norm": {4: {"kl_from_final_bits": math.nan}}}
    broken = prompt_records(
        {"norm": [1.0] * 4 + [math.inf] + [1.0] * 4}, rows=rows, nonfinite=[NonFinite("norm", 4, 3)]
    )
    sound = prompt_records({"norm": [2.0] * 9}, prompt=Prompt("b", "orig", "x", "y"))
    report = evaluation(report_input([broken, sound]))

    (place,) = lines_of(section(report, "Are all logits finite?"))
    assert (place["prompt"], place["`lens`"], place["`layer`"], place["`first_pos`"]) == (
        "pos (orig)",
        "norm",
        "4",
        "3",
    )
    depth = {(line["prompt"], line["row"]): line for line in lines_of(section(report, CLOSENESS))}
    assert depth["pos (orig)", "4"]["`kl_to_final_bits`"] == "not finite"
    assert depth["pos (orig)", "4"]["`kl_from_final_bits`"] == "not finite"
    assert depth["median of 2", "4"]["`kl_to_final_bits`"] == "2.000 (of 1)"
    assert depth["median of 2", "2"]["`kl_to_final_bits`"] == "1.500"
    assert "nan" not in report.replace("nonfinite", "")
    assert "None: every logit" in section(evaluation(report_input([sound])), "Are all logits finite?")


def test_a_model_with_nothing_finite_is_reported_still() -> None:
    def read(i: int) -> PromptRecords:
        places = [NonFinite("norm", row, pos) for row in range(9) for pos in range(4)]
        prompt = Prompt(f"p{i}", "orig", "x", "y")
        record = prompt_records({"norm": [math.nan] * 9}, prompt=prompt, nonfinite=places)
        nan = tuple(pair._replace(kl_bits=math.nan) for pair in record.norm_to_raw)
        return record._replace(norm_to_raw=nan, final_to_next=nan)

    report = evaluation(report_input([read(i) for i in range(5)]))

    assert "9 more `[output-m.json: diagnostics, nonfinite]`" in section(report, "Are all logits finite?")
    assert "5 high" in section(report, "Is a reading an artefact of the norm?")


def test_the_largest_difference_between_decoding_points_is_found_and_cited(tmp_path: Path) -> None:
    facts = sweep()
    write(facts, tmp_path)
    said = section(evaluation(facts), "Does the choice of the norm matter?")

    largest = float(re.findall(r"milestone row: ([\d.]+) bits", said)[0])
    ((file, place), *_) = CITATION.findall(said)
    document = load(tmp_path / file)
    every = [row["kl_final_to_next_bits"] for of in document["diagnostics"] for row in of["decoding_point"]["rows"]]
    assert largest == pytest.approx(max(every), abs=0.0006)
    assert look_up(document, place) == max(every)


def test_a_model_without_a_next_norm_says_why_there_is_no_decoding_point() -> None:
    record = prompt_records({"norm": [1.0] * 9})._replace(final_to_next=None)

    assert "no norm to use for decoding_norm next" in section(
        evaluation(report_input([record])), "Does the choice of the norm matter?"
    )


def test_the_rows_of_raw_against_norm_are_those_of_the_json(tmp_path: Path) -> None:
    facts = sweep(raw_lens="full")
    write(facts, tmp_path)
    document = load(tmp_path / facts.files["json"])

    lines = lines_of(section(evaluation(facts), "Is a reading an artefact of the norm?"))

    wanted = [of["raw_versus_norm"]["max_kl_norm_vs_raw_bits"] for of in document["diagnostics"]]
    assert [float(line["`max_kl_norm_vs_raw_bits`"]) for line in lines] == pytest.approx(wanted, abs=0.0006)
    assert {line["`mode`"] for line in lines} == {"full"}
