from logos_pl.kinds.registry import baselines, swept
from logos_pl.kinds.tempered import TEMPERED


def test_it_is_a_baseline_that_a_test_makes_itself() -> None:
    assert baselines()["norm_tau"] is TEMPERED.baseline
    assert TEMPERED.find is None
    assert "norm_tau" not in swept()
