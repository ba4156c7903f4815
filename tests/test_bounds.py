import pytest

from logos_pl.bounds import check_number
from logos_pl.errors import InputError


@pytest.mark.parametrize(
    ("bounds", "fits", "does_not", "words"),
    [
        ({"at_least": 1}, (1, 10**9), (0, 0.999), "at least 1"),
        ({"above": 0}, (1e-300,), (0, -1), "above 0"),
        ({"at_least": 1, "at_most": 1000}, (1, 1000), (1001, 0), "at least 1 and at most 1,000"),
        ({"above": 0, "below": 0.5}, (0.1,), (0, 0.5), "above 0 and below 0.5"),
        ({}, (-1e300,), (), "a finite number"),
    ],
)
def test_a_number_lies_within_its_bounds_or_is_refused_with_them(
    bounds: dict[str, float], fits: tuple[float, ...], does_not: tuple[float, ...], words: str
) -> None:
    for number in fits:
        check_number("--x", number, **bounds)
    for number in (*does_not, float("nan"), float("inf"), float("-inf")):
        with pytest.raises(InputError) as caught:
            check_number("--x", number, **bounds)
        assert str(caught.value) == f"--x must be {words} (got {number})."
