from logos_pl.kinds.bias_only import BIAS_ONLY
from logos_pl.kinds.registry import baselines, swept


def test_it_is_a_baseline_that_comes_with_the_tuned_lens_and_is_never_swept() -> None:
    assert baselines()["bias"] is BIAS_ONLY.baseline
    assert BIAS_ONLY.find is None
    assert (BIAS_ONLY.validated, BIAS_ONLY.evaluated) == (False, False)
    assert "bias" not in swept()
