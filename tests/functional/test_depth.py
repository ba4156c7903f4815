import pytest

from logos_pl.errors import InputError
from logos_pl.functional.depth import depth_percentile_rows, percentile_row


@pytest.mark.parametrize(
    ("num_blocks", "rows"), [(32, (8, 16, 24)), (42, (10, 21, 32)), (8, (2, 4, 6)), (80, (20, 40, 60))]
)
def test_percentile_rows_of_real_depths_are_the_rounded_fractions(num_blocks: int, rows: tuple[int, ...]) -> None:
    assert depth_percentile_rows(num_blocks) == dict(zip((25, 50, 75), rows, strict=True))


@pytest.mark.parametrize(("num_blocks", "rows"), [(2, (1, 1, 1)), (3, (1, 2, 2)), (4, (1, 2, 3))])
def test_shallow_models_repeat_rows_rather_than_leave_the_inner_ones(num_blocks: int, rows: tuple[int, ...]) -> None:
    assert tuple(depth_percentile_rows(num_blocks).values()) == rows


def test_every_fraction_stays_on_inner_rows_and_never_goes_back() -> None:
    for num_blocks in range(2, 130):
        rows = [percentile_row(p / 100, num_blocks) for p in range(101)]
        assert rows == sorted(rows)
        assert (rows[0], rows[-1]) == (1, num_blocks - 1)


@pytest.mark.parametrize(("p", "num_blocks"), [(0.5, 1), (0.5, 0), (25.0, 32), (-0.1, 32)])
def test_a_model_without_inner_rows_and_a_fraction_outside_zero_to_one_are_refused(p: float, num_blocks: int) -> None:
    with pytest.raises(InputError, match=str(num_blocks) if num_blocks < 2 else str(p)):
        percentile_row(p, num_blocks)
