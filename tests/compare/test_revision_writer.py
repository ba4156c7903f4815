"""What a comparison over revisions writes."""

import csv
import io
import json
from pathlib import Path

import pytest

from logos_pl.compare.revision_writer import FILES, Series, milestones_csv, rows_csv
from logos_pl.errors import InputError
from tests.compare.test_revisions import ROWS, revision


def test_two_revisions_are_written_together_and_one_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    series = Series()
    series.root, series.lens = tmp_path, "norm"
    series.add(revision("m@step1000", 1))
    series.finish({})
    assert list(tmp_path.iterdir()) == []
    series.add(revision("m@step2000", 2))
    series.finish({})
    (folder,) = (tmp_path / "comparisons").iterdir()
    assert folder.name.startswith("m-20")
    assert {path.name for path in folder.iterdir()} == set(FILES)
    document = json.loads((folder / "compare.json").read_text())
    assert (document["by"], [of["step"] for of in document["revisions"]]) == ("step", [1000, 2000])
    said = capsys.readouterr().out
    assert "norm over 2 revisions; means over 12 positions of 4 sequences" in said
    assert "step 1,000" in said
    assert "3 of 5" in said


def test_revisions_of_other_shapes_are_refused() -> None:
    series = Series()
    series.add(revision("m@step1"))
    with pytest.raises(InputError, match="m@step2 has 5 blocks and m@step1 4: compare revisions of one model"):
        series.add(revision("m@step2")._replace(num_blocks=5))


def test_the_tables_have_a_line_per_revision_and_row_or_milestone() -> None:
    revisions = [revision("m@a", 1), revision("m@b", 2)]
    rows = list(csv.DictReader(io.StringIO(rows_csv(revisions, None))))
    assert [(line["revision"], int(line["layer"])) for line in rows] == [(f"m@{x}", row) for x in "ab" for row in ROWS]
    assert rows[0]["step"] == ""
    assert float(rows[1]["kl_from_final_bits_low"]) == revisions[0].rows[1]["kl_from_final_bits"].low
    lines = list(csv.DictReader(io.StringIO(milestones_csv(revisions, [1, 2]))))
    first = next(line for line in lines if (line["of"], line["milestone"]) == ("answers", "first_rank_le_1"))
    assert (first["step"], float(first["reached_frac"])) == ("1", 0.6)
