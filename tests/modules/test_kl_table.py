import torch

from logos_pl.modules.kl_table import kl_table, tables_of
from tests.printed import printed


def test_the_kl_table_has_every_row_and_marks_the_percentiles() -> None:
    def reading(offset: float) -> dict[str, torch.Tensor]:
        values = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0]) + offset
        return {"kl_from_final_bits": values, "kl_to_final_bits": values * 10, "top1_agree": values / 10}

    lines = printed(kl_table({"norm": reading(0.5), "tuned": reading(0.0)}))

    assert lines[2] == ["0", "4.500", "4.000", "45.000", "40.000", "45.0%", "40.0%"]
    assert lines[4] == ["2", "50%", "2.500", "2.000", "25.000", "20.000", "25.0%", "20.0%"]
    assert [line[0] for line in lines[2:]] == ["0", "1", "2", "3", "4"]
    other = printed(kl_table({"norm": reading(0.5), "imported": reading(0.0)}, ["norm", "imported"]))
    assert other[1] == ["row", "depth", *["norm", "imported"] * 3]
    assert other[2:] == lines[2:]


def test_a_row_that_a_lens_does_not_read_has_no_figure_and_one_that_is_not_finite_says_so() -> None:
    values = torch.tensor([torch.nan, 3.0, 2.0, torch.nan, 0.0])
    reading = {"kl_from_final_bits": values, "kl_to_final_bits": values, "top1_agree": values}
    norm = dict.fromkeys(reading, torch.zeros(5))
    lines = printed(kl_table({"norm": norm, "j": reading | {"nonfinite": torch.tensor([0, 0, 0, 7, 0])}}))
    assert lines[2] == ["0", *["0.000", "–"] * 2, "0.0%", "–"]
    assert lines[5] == ["3", "75%", *["0.000", "nan"] * 2, "0.0%", "nan%"]


def test_lenses_are_shown_in_as_many_tables_as_eighty_columns_need() -> None:
    assert tables_of(["norm", "tuned", "prism"]) == [["norm", "tuned", "prism"]]
    assert tables_of(["norm", "tuned", "imported", "j", "r", "twelve_chars"]) == [
        ["norm", "tuned", "imported"], ["norm", "j", "r"], ["norm", "twelve_chars"],
    ]  # fmt: skip
    assert tables_of(["norm"]) == [["norm"]]
