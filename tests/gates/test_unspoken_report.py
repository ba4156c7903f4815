"""The section of gates.json and the words and table on the terminal."""

import json

from logos_pl.data.unspoken import UnspokenItem
from logos_pl.gates.unspoken_figures import ALL, measure_unspoken
from logos_pl.gates.unspoken_report import beside_gate_b, headline, to_plain, unspoken_table
from tests.gates.unspoken_case import example, suite_of
from tests.printed import printed

LEFT_OUT = UnspokenItem("e", "two", "prompt e", (("20",),))


def test_the_section_has_every_figure_with_its_interval_and_the_items_that_cannot_be_scored() -> None:
    readings = example()
    figures = measure_unspoken(readings)
    plain = to_plain(*suite_of(readings.items, [LEFT_OUT]), figures)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["schema_version"] == 1
    assert plain["items"] == {
        "given": 5, "scored": 4, "answered": 1, "without_answer": 1, "unscored": {"no_spelling": ["two/e"]},
    }  # fmt: skip
    assert (plain["found_rank"], plain["area_max_k"], plain["recall_rows"]) == (10, 100, [1, 2, 3, 4, 5, 6, 7])
    for lens, of_lens in figures.lenses.items():
        found = plain["lenses"][lens]["sets"]
        assert list(found) == [ALL, "one", "two"]
        wanted = of_lens.sets[ALL].pass_at[10]
        assert wanted is not None
        assert found[ALL]["pass_at_10"] == wanted._asdict()
        assert set(found[ALL]["order"]) == {
            "items", "first_row_intermediate", "first_row_answer", "intermediate_first_frac", "answer_first_frac",
        }  # fmt: skip
    assert plain["lenses"]["norm"]["area_gain"] == {"norm": None}


def test_the_headline_says_what_was_read_and_what_was_not() -> None:
    readings = example()
    readings.lenses["tuned"] = readings.lenses["tuned"]._replace(nonfinite=3)
    said = headline(*suite_of(readings.items, [LEFT_OUT]), measure_unspoken(readings)).splitlines()
    assert said[0].startswith("Unspoken intermediates: 4 of 5 items of mine.yaml; the model answers 1 of 3.")
    assert said[1].startswith("· 1 cannot be scored: a word has no spelling that counts")
    assert said[2] == "· 3 readings of the tuned lens are not finite and count as not found."


def test_gate_b_has_the_order_beside_it() -> None:
    said = beside_gate_b(measure_unspoken(example()), "norm")
    assert said is not None
    assert "on 2 items of unspoken intermediates" in said
    assert "before the intermediate in 25 [0, 50]%, after it in 25 [0, 50]%" in said


def test_nothing_is_said_beside_gate_b_where_no_item_tells() -> None:
    readings = example()
    mute = readings._replace(final_rank=readings.final_rank + 100)
    assert beside_gate_b(measure_unspoken(mute), "norm") is None


def test_the_table_has_a_column_for_every_lens_and_a_line_for_every_figure() -> None:
    figures = measure_unspoken(example())
    lines = printed(unspoken_table(figures, list(figures.lenses)))
    assert lines[0] == ["norm", "tuned"]
    found = {line[0]: line[1] for line in lines[1:]}
    assert found["pass@10"] == f"{100 * (0.5 + 1 + 0 + 1) / 4:.0f}"
    assert ["pass@10,", "two", "50"] in [line[:3] for line in lines]
    assert ["area", "over", "norm", "–"] in [line[:4] for line in lines]
