from logos_pl.kinds.norm import NORM
from logos_pl.kinds.registry import kinds


def test_the_norm_lens_is_shown_first_and_the_only_one_without_a_suffix_a_row_and_a_file() -> None:
    assert kinds()[0] is NORM
    assert [kind.name for kind in kinds() if kind.first_row is None] == ["norm"]
    assert [kind.name for kind in kinds() if not kind.file_suffix] == ["norm"]
    assert (NORM.find, NORM.compared, NORM.swept, NORM.validated) == (None, False, True, True)
