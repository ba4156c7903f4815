"""Records of what a validation measured of a lens on another model."""

from dataclasses import replace
from pathlib import Path

import pytest

from logos_pl.artifacts.transfer import DepthKl
from logos_pl.errors import InputError
from logos_pl.modules.transfer_record import (
    measured,
    print_transfer,
    record_path,
    summary,
    with_record,
    write_record,
)
from tests.artifacts.test_transfer import FOUND

READINGS = {name: {"kl_from_final_bits": [0, 0, value]} for name, value in (("norm", 1.5), ("tuned", 0.9))}


def test_what_was_measured_is_read_back_for_the_same_lens_and_model(tmp_path: Path) -> None:
    path = record_path(tmp_path / "transfers", "tuned", "identity", FOUND)
    assert with_record(FOUND, path) is FOUND
    found = measured(FOUND, READINGS, "tuned", "corpus")
    assert found.here == {"50": DepthKl(2, 1.5, 0.9)}
    write_record(path, found)
    assert with_record(FOUND, path) == found
    for other in (("prism", "identity", FOUND), ("tuned", "other", FOUND)):
        assert record_path(tmp_path / "transfers", *other) != path
    assert record_path(tmp_path / "transfers", "tuned", "identity", replace(FOUND, model_commit="c")) != path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a record of a validation"),
        ('{"50": {"row": 2, "norm": 1, "lens": 1}}', "is not a record of a validation"),
        ('{"text": "t", "kl_bits": {"50": {"row": 2, "norm": "x", "lens": 1}}}', "is not a record of a validation"),
        ('{"text": "t", "kl_bits": {"50": {"row": 3, "norm": 1, "lens": 1}}}', "has other rows than the lens"),
    ],
)
def test_a_record_that_is_none_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(InputError, match=message):
        with_record(FOUND, tmp_path / "record.json")


def test_both_sides_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert "at the fit was 50% 0.700 bits at these depths; on this model it is unknown: `logos-pl val" in summary(FOUND)
    found = measured(FOUND, READINGS, "tuned", "corpus")
    assert summary(found).endswith("on this model it is 50% 0.900")
    print_transfer(found, "tuned")
    said = capsys.readouterr().out
    assert "at its fit on org/base, and here" in said
    assert said.split()[-6:] == ["50%", "2", "1.200", "0.700", "1.500", "0.900"]


def test_figures_of_two_texts_are_said_to_be_no_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "record.json"
    write_record(path, measured(FOUND, READINGS, "tuned", "another"))
    found = with_record(FOUND, path)
    print_transfer(found, "tuned")
    for said in (summary(found), capsys.readouterr().out):
        assert "corpus" in said
        assert "another: KL on two texts does not compare the models" in " ".join(said.split())
