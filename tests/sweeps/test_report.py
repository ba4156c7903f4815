import re
from pathlib import Path

from logos_pl.data.prompt_types import AnswerTokens, Prompt
from tests.sweeps.made_records import prompt_records
from tests.sweeps.report_text import CITATION, HEADINGS, agrees, evaluation, headings, keyed, lines_of, section
from tests.sweeps.swept import csv_lines, load, look_up, random_prompt, report_input, sweep, sweep_records, write


def test_the_sections_are_always_the_same() -> None:
    nothing = report_input([])

    assert headings(evaluation(sweep())) == HEADINGS
    assert headings(evaluation(nothing)) == HEADINGS
    assert evaluation(sweep()).startswith("# Evaluation of org/demo\n")


def test_every_number_in_a_table_of_one_prompt_is_what_the_cited_place_has(tmp_path: Path) -> None:
    facts = sweep()
    write(facts, tmp_path)
    checked = 0
    for line in lines_of(evaluation(facts)):
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


def test_without_a_tuned_lens_nothing_is_said_of_it() -> None:
    report = evaluation(sweep(lenses=("norm",)))

    assert "Tuned against norm" not in report
    assert "tuned lens" not in report


def test_answers_are_counted_and_the_unresolved_are_named() -> None:
    said = section(evaluation(sweep(count=20)), "What was asked?")

    assert (
        "Answers: 42 resolved, 1 unresolved; prompts without one: 1 `[output-demo.json: gold_answer, status]`" in said
    )
    assert "Unresolved, hence without answer metrics: merged (orig) `[" in said
    assert "Unresolved" not in evaluation(report_input([prompt_records({"norm": [1.0] * 9})]))


def test_the_models_own_answers_at_rank_one_are_counted() -> None:
    facts = sweep()
    ranks = [of.next_token["norm"][-1].answer_rank for of in sweep_records() if of.answer_tokens.first_id is not None]

    assert f"first after {ranks.count(1)} of {len(ranks)} prompts" in section(
        evaluation(facts), "What does the model answer?"
    )


def test_every_sentence_with_a_count_is_cited() -> None:
    report = evaluation(sweep())

    said = [
        line
        for line in report.split("## In short")[1].split("## How to read")[0].splitlines()
        if re.search(r"\d", line) and line[0] not in "|#"
    ]
    assert len(said) >= 7
    assert [line for line in said if "`[output-demo" not in line] == [
        line for line in said if line.startswith("- Files:")
    ]


def test_prompts_and_tokens_cannot_break_the_tables() -> None:
    nasty = "a|b `c` $x$\n# head <b> \\| \u2028"
    record = random_prompt(
        0, Prompt("p|`_1", "orig", nasty * 30, nasty), AnswerTokens("resolved", "no_space", (3,), (nasty,))
    )
    top = record.next_token["norm"][-1].top[0]._replace(token=nasty)
    last = record.next_token["norm"][-1]._replace(top=(top,))
    record.next_token["norm"][-1] = last

    report = evaluation(report_input([record], "a_b|c"))

    assert headings(report) == HEADINGS
    (line,) = lines_of(section(report, "What was asked?"))
    assert line["prompt"] == r"p\|\`\_1 (orig)"
    assert len(line["text"]) < 400
    assert line["text"].endswith('…"')
    (line,) = lines_of(section(report, "What does the model answer?"))
    assert line["`top[0].token`"].startswith(r'"a\|b \`c\` \$x\$\\n# head &lt;b&gt; ')
    assert "<b>" not in report


def test_the_report_is_the_same_every_time() -> None:
    assert evaluation(sweep()) == evaluation(sweep())


def test_positions_are_not_looked_at() -> None:
    dropped = [record._replace(positions={}) for record in sweep_records()]

    assert evaluation(report_input(dropped, "demo")) == evaluation(sweep())
