import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.sweep.records import NonFinite, PromptRecords
from logos_pl.sweep.report import evaluation_report
from logos_pl.sweep.report_input import LISTED
from tests.sweep.made_records import prompt_records
from tests.sweep.swept import csv_lines, load, look_up, random_prompt, report_input, sweep, sweep_records, write

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


def test_the_sections_are_always_the_same() -> None:
    nothing = report_input([])

    assert headings(evaluation_report(sweep())) == HEADINGS
    assert headings(evaluation_report(nothing)) == HEADINGS
    assert evaluation_report(sweep()).startswith("# Evaluation of org/demo\n")


def test_every_number_in_a_table_of_one_prompt_is_what_the_cited_place_has(tmp_path: Path) -> None:
    facts = sweep()
    write(facts, tmp_path)
    checked = 0
    for line in lines_of(evaluation_report(facts)):
        first = line.get("prompt", line.get("lens", ""))
        if " minus " in line["source"] or "median" in first or "prompts" in first:
            continue
        ((file, place),) = CITATION.findall(line["source"])
        for key, cell in keyed(line).items():
            if file.endswith(".json"):
                value = look_up(look_up(load(tmp_path / file), place), key)
            else:
                (found,) = csv_lines(tmp_path / file, place.split(", "))
                value = float(found[key])
            assert agrees(cell, value), (line, key, value)
            checked += 1
    assert checked > 500


def test_the_medians_over_depth_are_those_of_the_cited_column_and_layer(tmp_path: Path) -> None:
    facts = sweep()
    write(facts, tmp_path)
    medians = [
        line for line in lines_of(section(evaluation_report(facts), HEADINGS[5])) if "median" in line.get("prompt", "")
    ]
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
    for line in lines_of(evaluation_report(facts)):
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
        line["norm minus tuned, median over prompts"]: line
        for line in lines_of(evaluation_report(facts))
        if "value" in line
    }
    assert (
        early["rows until the answer is at rank ≤ 5"]["value"],
        early["rows until the answer is at rank ≤ 5"]["prompts"],
    ) == ("4", "2")
    assert early["rows until the answer is at rank ≤ 1"]["value"] == "–"


def test_without_a_tuned_lens_nothing_is_said_of_it() -> None:
    report = evaluation_report(sweep(lenses=("norm",)))

    assert "Tuned against norm" not in report
    assert "tuned lens" not in report


def test_milestones_are_summed_up_over_all_prompts() -> None:
    def read(prompt_id: str, row: int | None) -> Any:
        rank = {} if row is None else {row: {"answer_rank": 1, "is_answer": True}}
        return prompt_records({"norm": [1.5] * 9}, prompt=Prompt(prompt_id, "orig", "x", "y"), rows={"norm": rank})

    facts = report_input([read("a", 3), read("b", 6), read("c", None)])

    last = lines_of(section(evaluation_report(facts), "Milestones"))[-1]
    assert last["prompt"] == "median row (reached by, of 3)"
    assert last["`L_semantic`"] == "4.5 (2)"
    assert last["`L_copy`"] == "– (0)"


def test_copies_are_counted_over_all_prompts_and_the_identity_row_is_explained() -> None:
    copy = {2: {"copy_collapse": True}, 0: {"copy_collapse": True, "identity_row": True}}
    with_copy = prompt_records({"norm": [1.0] * 9}, rows={"norm": copy})
    without, also_without = (prompt_records({"norm": [1.0] * 9}, prompt=Prompt(name, "orig", "x")) for name in "bc")

    said = section(evaluation_report(report_input([with_copy, without, also_without])), "Copy collapse")

    counted, where = lines_of(said)
    assert (counted["lens"], counted["`L_copy`"]) == ("norm: prompts, of 3", "1")
    assert (where["lens"], where["`L_copy`"]) == ("norm: pos (orig), row", "2")
    assert "identity" in said
    assert "identity" not in section(evaluation_report(report_input([without])), "Copy collapse")


def test_answers_are_counted_and_the_unresolved_are_named() -> None:
    said = section(evaluation_report(sweep(count=20)), "Prompts and answers")

    assert (
        "Answers: 42 resolved, 1 unresolved; prompts without one: 1 `[output-demo.json: gold_answer, status]`" in said
    )
    assert "Unresolved, hence without answer metrics: merged (orig) `[" in said
    assert "Unresolved" not in evaluation_report(report_input([prompt_records({"norm": [1.0] * 9})]))


def test_the_models_own_answers_at_rank_one_are_counted() -> None:
    facts = sweep()
    ranks = [of.next_token["norm"][-1].answer_rank for of in sweep_records() if of.gold.first_id is not None]

    assert f"first after {ranks.count(1)} of {len(ranks)} prompts" in section(
        evaluation_report(facts), "Final prediction"
    )


def test_of_many_prompts_the_first_are_listed() -> None:
    report = evaluation_report(sweep(count=30))

    assert f"Tables list the first {LISTED}." in report
    assert len(lines_of(section(report, "Prompts and answers"))) == LISTED
    assert len(lines_of(section(report, "Last row"))) == LISTED
    assert len(report.splitlines()) < 400
    assert "Tables list" not in evaluation_report(sweep(count=1))


def test_every_sentence_with_a_count_is_cited() -> None:
    report = evaluation_report(sweep())

    said = [
        line
        for line in report.split("## Model and run")[1].splitlines()
        if re.search(r"\d", line) and line[0] not in "|#"
    ]
    assert len(said) >= 7
    assert [line for line in said if "`[output-demo" not in line] == [
        line for line in said if line.startswith("- Files:")
    ]


def test_what_is_not_finite_is_named_and_counts_for_no_median() -> None:
    rows = {"norm": {4: {"kl_from_final_bits": math.nan}}}
    broken = prompt_records(
        {"norm": [1.0] * 4 + [math.inf] + [1.0] * 4}, rows=rows, nonfinite=[NonFinite("norm", 4, 3)]
    )
    sound = prompt_records({"norm": [2.0] * 9}, prompt=Prompt("b", "orig", "x", "y"))
    report = evaluation_report(report_input([broken, sound]))

    (place,) = lines_of(section(report, "Non-finite"))
    assert (place["prompt"], place["`lens`"], place["`layer`"], place["`first_pos`"]) == (
        "pos (orig)",
        "norm",
        "4",
        "3",
    )
    depth = {(line["prompt"], line["row"]): line for line in lines_of(section(report, HEADINGS[5]))}
    assert depth["pos (orig)", "4"]["`kl_to_final_bits`"] == "not finite"
    assert depth["pos (orig)", "4"]["`kl_from_final_bits`"] == "not finite"
    assert depth["median of 2", "4"]["`kl_to_final_bits`"] == "2.000 (of 1)"
    assert depth["median of 2", "2"]["`kl_to_final_bits`"] == "1.500"
    assert "nan" not in report.replace("nonfinite", "")
    assert "None: every logit" in section(evaluation_report(report_input([sound])), "Non-finite")


def test_a_model_with_nothing_finite_is_reported_still() -> None:
    def read(i: int) -> PromptRecords:
        places = [NonFinite("norm", row, pos) for row in range(9) for pos in range(4)]
        prompt = Prompt(f"p{i}", "orig", "x", "y")
        record = prompt_records({"norm": [math.nan] * 9}, prompt=prompt, nonfinite=places)
        nan = tuple(pair._replace(kl_bits=math.nan) for pair in record.norm_to_raw)
        return record._replace(norm_to_raw=nan, final_to_next=nan)

    report = evaluation_report(report_input([read(i) for i in range(5)]))

    assert "9 more `[output-m.json: diagnostics, nonfinite]`" in section(report, "Non-finite")
    assert "5 high" in section(report, "Raw against norm")


def test_the_largest_difference_between_decoding_points_is_found_and_cited(tmp_path: Path) -> None:
    facts = sweep()
    write(facts, tmp_path)
    said = section(evaluation_report(facts), "Decoding point")

    largest = float(re.findall(r"milestone row: ([\d.]+) bits", said)[0])
    ((file, place), *_) = CITATION.findall(said)
    document = load(tmp_path / file)
    every = [row["kl_final_to_next_bits"] for of in document["diagnostics"] for row in of["decoding_point"]["rows"]]
    assert largest == pytest.approx(max(every), abs=0.0006)
    assert look_up(document, place) == max(every)


def test_a_model_without_a_next_norm_says_why_there_is_no_decoding_point() -> None:
    record = prompt_records({"norm": [1.0] * 9})._replace(final_to_next=None)

    assert "No norm" in section(evaluation_report(report_input([record])), "Decoding point")


def test_the_rows_of_raw_against_norm_are_those_of_the_json(tmp_path: Path) -> None:
    facts = sweep(raw_lens="full")
    write(facts, tmp_path)
    document = load(tmp_path / facts.files["json"])

    lines = lines_of(section(evaluation_report(facts), "Raw against norm"))

    wanted = [of["raw_versus_norm"]["max_kl_norm_vs_raw_bits"] for of in document["diagnostics"]]
    assert [float(line["`max_kl_norm_vs_raw_bits`"]) for line in lines] == pytest.approx(wanted, abs=0.0006)
    assert {line["`mode`"] for line in lines} == {"full"}


def test_prompts_and_tokens_cannot_break_the_tables() -> None:
    nasty = "a|b `c` $x$\n# head <b> \\| \u2028"
    record = random_prompt(
        0, Prompt("p|`_1", "orig", nasty * 30, nasty), AnswerTokens("resolved", "no_space", (3,), (nasty,))
    )
    top = record.next_token["norm"][-1].top[0]._replace(token=nasty)
    last = record.next_token["norm"][-1]._replace(top=(top,))
    record.next_token["norm"][-1] = last

    report = evaluation_report(report_input([record], "a_b|c"))

    assert headings(report) == HEADINGS
    (line,) = lines_of(section(report, "Prompts and answers"))
    assert line["prompt"] == r"p\|\`\_1 (orig)"
    assert len(line["text"]) < 400
    assert line["text"].endswith('…"')
    (line,) = lines_of(section(report, "Final prediction"))
    assert line["`top[0].token`"].startswith(r'"a\|b \`c\` \$x\$\\n# head &lt;b&gt; ')
    assert "<b>" not in report


def test_a_model_of_one_block_has_no_inner_depth() -> None:
    record = prompt_records({"norm": [3.0, 0.0], "tuned": [2.0, 0.0]})

    depths = [
        line["depth"]
        for line in lines_of(section(evaluation_report(report_input([record], num_blocks=1)), HEADINGS[5]))
    ]
    assert depths == ["0%", "100%"] * 2


def test_the_five_depths_are_the_percentile_rows() -> None:
    lines = lines_of(section(evaluation_report(sweep(count=0)), HEADINGS[5]))

    assert [(line["depth"], line["row"]) for line in lines[:5]] == [
        ("0%", "0"), ("25%", "2"), ("50%", "4"), ("75%", "6"), ("100%", "8"),
    ]  # fmt: skip


def test_the_report_is_the_same_every_time() -> None:
    assert evaluation_report(sweep()) == evaluation_report(sweep())


def test_positions_are_not_looked_at() -> None:
    dropped = [record._replace(positions={}) for record in sweep_records()]

    assert evaluation_report(report_input(dropped, "demo")) == evaluation_report(sweep())


def test_a_lens_that_read_only_some_prompts_is_reported_for_those() -> None:
    some = prompt_records({"norm": [1.0] * 9, "tuned": [0.5] * 9})
    other = prompt_records({"norm": [1.0] * 9}, prompt=Prompt("b", "orig", "x", "y"))

    report = evaluation_report(report_input([other, some]))

    tuned = section(report, "Milestones").split("tuned lens")[1]
    assert [line["prompt"] for line in lines_of(tuned)] == ["pos (orig)"]
