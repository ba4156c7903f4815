"""How the two lenses of a comparison are named."""

from pathlib import Path

import pytest

from logos_pl.compare.lens_pair import LensGiven, parse_lens
from logos_pl.errors import InputError


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("norm", LensGiven("norm", None)),
        ("tuned", LensGiven("tuned", None)),
        ("bias", LensGiven("bias", None)),
        ("prism", LensGiven("prism", None)),
        ("prism=a/b", LensGiven("prism", "a/b")),
        ("bias=one", LensGiven("bias", "one")),
        ("org/lenses", LensGiven("tuned", "org/lenses")),
    ],
)
def test_a_lens_is_a_kind_a_kind_at_a_place_or_the_place_of_a_tuned_lens(given: str, wanted: LensGiven) -> None:
    assert parse_lens(given) == wanted


def test_a_folder_is_that_of_a_tuned_lens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert parse_lens("mine") == LensGiven("tuned", "mine")
    assert parse_lens("mine").label == "tuned mine"


@pytest.mark.parametrize("given", ["tunde", "norm_tau", "norm=x", "toy=x", "prism="])
def test_what_is_no_lens_is_refused_with_those_that_are(given: str) -> None:
    with pytest.raises(InputError, match=rf"There is no lens '{given}': give one of norm, tuned, bias, prism"):
        parse_lens(given)
