"""The CSV of unspoken intermediates."""

import csv
import io

from logos_pl.data.unspoken import UnspokenItem
from logos_pl.gates.unspoken_csv import unspoken_csv
from tests.gates.unspoken_case import example, suite_of


def test_every_intermediate_has_a_line_and_what_is_not_scored_its_reason() -> None:
    readings = example()
    left_out = UnspokenItem("e", "two", "prompt e", (("20",), ("ten",)))
    _, tokenized = suite_of(readings.items, [left_out])
    lines = list(csv.DictReader(io.StringIO(unspoken_csv(tokenized, readings, lambda token: f"t{token}"))))
    assert [line["item_id"] for line in lines] == ["a", "a", "b", "c", "d", "e"]
    first, second, *_, last_scored, unscored = lines
    assert first == {
        "set": "one", "item_id": "a", "status": "scored", "intermediate": "w0", "tokens": "t10", "answer": "answer",
        "answer_tokens": "t5", "answer_final_rank": "1", "best_rank_norm": "3", "first_row_norm": "6",
        "answer_first_row_norm": "7", "best_rank_tuned": "1", "first_row_tuned": "5", "answer_first_row_tuned": "0",
    }  # fmt: skip
    assert (second["best_rank_norm"], second["first_row_norm"]) == ("101", "")
    assert (last_scored["answer"], last_scored["answer_final_rank"], last_scored["answer_first_row_norm"]) == ("",) * 3
    assert (unscored["status"], unscored["intermediate"], unscored["best_rank_norm"]) == ("no_spelling", "20 ten", "")
