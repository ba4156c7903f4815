"""`logos-pl compare` on fitted lenses of a tiny model."""

import json
from pathlib import Path
from typing import Any

import pytest

from logos_pl.cli.entry import main
from tests.tiny import accepted, fit_arguments


@pytest.fixture
def arguments(tiny: dict[str, Path], fitted: Path) -> list[str]:
    return accepted("compare", fit_arguments(**tiny, logs=fitted))


def compare(arguments: list[str], a: str, b: str, *more: str) -> int:
    name, *options = arguments
    return main([name, a, b, *options, *more])


def document(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "compare.json").read_text())
    return read


def test_two_lenses_are_compared_at_every_row_and_nothing_is_overwritten(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert compare(arguments, "norm", "tuned", f"--compare.out_dir={out}") == 0
    said = capsys.readouterr().out
    assert "tiny-llama: A = norm, B = tuned" in said
    found = document(out)
    assert list(found["rows"]) == ["0", "1", "2", "3", "4"]
    for row in ("0", "4"):  # a tuned lens is the norm lens there
        assert abs(found["rows"][row]["kl_ab_bits"]["estimate"]) < 1e-6
        assert found["rows"][row]["top1_overlap_frac"]["estimate"] == 1
    assert found["rows"]["2"]["kl_ab_bits"]["estimate"] > 0.01
    assert found["rows"]["4"]["kl_final_b_bits"]["estimate"] < 1e-6 < found["rows"]["2"]["kl_final_b_bits"]["estimate"]
    assert (found["lenses"]["a"]["kind"], found["lenses"]["b"]["text_sha256"] is None) == ("norm", False)
    assert {path.name for path in out.iterdir()} == {"compare.json", "compare.csv", "compare.png"}

    assert compare(arguments, "bias", "norm", f"--compare.out_dir={out}") == 2
    assert "holds compare.json already: choose another --compare.out_dir." in capsys.readouterr().err
    assert document(out) == found


def test_two_lenses_are_needed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    name, *options = arguments
    assert main([name, "norm", *options]) == 2
    assert "compare needs two lenses, as in `logos-pl compare norm tuned" in capsys.readouterr().err


def test_the_order_of_the_lenses_only_exchanges_the_divergences(arguments: list[str], tmp_path: Path) -> None:
    for name, pair in (("one", ("bias", "tuned")), ("two", ("tuned", "bias"))):
        assert compare(arguments, *pair, f"--compare.out_dir={tmp_path / name}") == 0
    one, two = (document(tmp_path / name)["rows"] for name in ("one", "two"))
    for row in one:
        assert one[row]["kl_ab_bits"]["estimate"] == pytest.approx(two[row]["kl_ba_bits"]["estimate"], abs=1e-6)
        assert one[row]["top1_overlap_frac"] == two[row]["top1_overlap_frac"]


@pytest.mark.parametrize(
    ("pair", "sentence"),
    [
        (("norm", "norm"), "Both lenses are norm: give two that differ."),
        (("norm", "tunde"), "There is no lens 'tunde'"),
        (("norm", "tuned=missing/lens"), "missing/lens"),
        (("norm", "prism"), "There is no prism"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_sentence(
    arguments: list[str], pair: tuple[str, str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(arguments, *pair) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
