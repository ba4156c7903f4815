import re
import statistics
from pathlib import Path

import pytest

from tests.sweeps.report_text import CITATION, cross_evaluation, evaluation, headings, keyed, lines_of, section
from tests.sweeps.swept import csv_lines, load, report_input, sweep, write

HEADINGS = [
    "In short",
    "Which models were read?",
    "What does each model answer?",
    "Where does the answer appear?",
    "How close is each row to the model's output?",
    "What does the tuned lens gain over the norm lens?",
    "What does the prism gain over the norm lens?",
    "What does the Jacobian lens gain over the norm lens?",
    "What does the imported lens gain over the norm lens?",
    "What do the checks say?",
    "How to read the tables",
]


def test_the_sections_are_always_the_same() -> None:
    assert headings(cross_evaluation([sweep("a"), sweep("b", 5)])) == HEADINGS
    assert headings(cross_evaluation([])) == HEADINGS
    assert headings(cross_evaluation([report_input([])])) == HEADINGS


def test_models_stand_in_the_order_given_with_their_sizes() -> None:
    lines = lines_of(section(cross_evaluation([sweep("b", 5), sweep("a", 1, ("norm",))]), "Which models were read?"))

    assert [line["model"] for line in lines] == ["org/b", "org/a"]
    assert [line["`num_blocks`"] for line in lines] == ["8", "8"]
    assert [line["`lenses`"] for line in lines] == ["norm, tuned", "norm"]
    assert [line["`num_prompts`"] for line in lines] == ["14", "6"]


def test_milestones_are_medians_of_fractions_with_the_number_that_reached_them(tmp_path: Path) -> None:
    facts = sweep("a", 4)
    write(facts, tmp_path)
    diagnostics = load(tmp_path / facts.files["json"])["diagnostics"]

    for line in lines_of(section(cross_evaluation([facts]), "Where does the answer appear?")):
        assert int(line["prompts"]) == len(diagnostics)
        for key, cell in keyed(line).items():
            fracs = [of["milestones"][line["lens"]][key]["frac"] for of in diagnostics]
            reached = [frac for frac in fracs if frac is not None]
            value, count = re.fullmatch(r"(\S+) \((\d+)\)", cell).groups()  # type: ignore[union-attr]
            assert int(count) == len(reached)
            assert value == "–" if not reached else float(value) == pytest.approx(statistics.median(reached), abs=6e-4)


def test_depths_are_medians_of_the_cited_column_and_layer(tmp_path: Path) -> None:
    sweeps = [sweep("a", 4), sweep("b", 2)]
    for facts in sweeps:
        write(facts, tmp_path)
    lines = lines_of(section(cross_evaluation(sweeps), HEADINGS[4]))
    assert len(lines) == 2 * 2 * 5
    for line in lines:
        ((file, place),) = CITATION.findall(line["source"])
        assert file.startswith(f"output-{line['model'].removeprefix('org/')}-")
        assert place == f"layer {line['row']}"
        for key, cell in keyed(line).items():
            values = [float(found[key]) for found in csv_lines(tmp_path / file, [place])]
            assert float(cell) == pytest.approx(statistics.median(values), abs=6e-4)


def test_answers_and_final_entropy_are_summed_up(tmp_path: Path) -> None:
    facts = sweep("a", 4)
    write(facts, tmp_path)
    final = load(tmp_path / facts.files["json"])["final_prediction"]

    (line,) = lines_of(section(cross_evaluation([facts]), "What does each model answer?"))

    assert [line[key] for key in ("answers resolved", "unresolved", "none")] == ["10", "1", "1"]
    assert int(line["answer at rank 1"]) == sum(of["answer_rank"] == 1 for of in final)
    entropy = statistics.median(of["entropy_bits"] for of in final)
    assert float(line["median `entropy_bits`"]) == pytest.approx(entropy, abs=6e-4)


def test_checks_are_counted_over_prompts(tmp_path: Path) -> None:
    facts = sweep("a", 4)
    write(facts, tmp_path)
    diagnostics = load(tmp_path / facts.files["json"])["diagnostics"]

    (line,) = lines_of(section(cross_evaluation([facts]), "What do the checks say?"))

    for risk in ("low", "medium", "high"):
        counted = sum(of["raw_versus_norm"]["lens_artifact_risk"] == risk for of in diagnostics)
        assert int(line[f"prompts of {risk} `lens_artifact_risk`"]) == counted
    warned = sum(of["last_row"]["warn_high_last_layer_kl"] for of in diagnostics)
    assert int(line["with `warn_high_last_layer_kl`"]) == warned > 0
    assert line["with `nonfinite`"] == "1"


def test_the_tuned_lens_is_set_against_the_norm_lens_as_in_each_models_own_report() -> None:
    facts = sweep("a", 4)

    (block,) = re.findall(
        r"### org/a\n\n(.*?)\n(?:\n|$)", section(cross_evaluation([facts]), HEADINGS[5]) + "\n", re.DOTALL
    )

    assert block in evaluation(facts)
    assert cross_evaluation([sweep("a", 1, ("norm",))]).count("No model was read with this lens.") == 4
    assert "### org/b" not in cross_evaluation([facts, sweep("b", 1, ("norm",))])


def test_every_line_is_cited_and_the_report_is_the_same_every_time() -> None:
    sweeps = [sweep("a", 4), sweep("b", 2)]
    report = cross_evaluation(sweeps)

    assert all(line["source"].startswith("`[output-") for line in lines_of(report))
    assert report == cross_evaluation(sweeps)
