"""What is kept of the unspoken intermediates of a test."""

import contextlib
import io
from typing import Any

from logos_pl.artifacts.filenames import UNSPOKEN_FILES
from logos_pl.demo import MODEL_DIR
from logos_pl.gates.unspoken_result import UnspokenResult
from logos_pl.lm.tokenizer import load_tokenizer
from tests.gates.unspoken_case import example, suite_of


class DemoLM:
    """What of a model the files need."""

    clean_model_name = "demo"
    tokenizer = load_tokenizer(str(MODEL_DIR))


def result() -> UnspokenResult:
    readings = example()
    return UnspokenResult(*suite_of(readings.items), readings)


def test_the_files_are_the_table_and_the_picture() -> None:
    lm: Any = DemoLM()
    table, picture = UNSPOKEN_FILES
    files = result().files(lm)
    assert list(files) == [table, picture]
    assert files[table].startswith(b"set,item_id,status")
    assert files[picture].startswith(b"\x89PNG")
    assert result().files(lm) == files


def test_the_table_is_printed_under_its_headline() -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        result().print()
    lines = said.getvalue().splitlines()
    assert "Unspoken intermediates: 4 items of mine.yaml" in lines[1]
    assert any(line.split() == ["norm", "tuned"] for line in lines)


def test_every_lens_has_its_scalars() -> None:
    scalars = result().scalars()
    assert scalars["intermediates_pass_at_10_norm"] == 0.625
    assert {label.rpartition("_")[2] for label in scalars} == {"norm", "tuned"}
