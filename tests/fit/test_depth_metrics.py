import pytest
import torch

from logos_pl.fit.depth_metrics import PERCENTILE_KL, depth_metrics
from logos_pl.functional.divergence import RowDivergence


def test_the_rows_at_a_quarter_half_and_three_quarters_are_logged_and_the_tuned_lens_decides() -> None:
    quantities = {name: torch.arange(9.0) * (k + 1) for k, name in enumerate(RowDivergence._fields)}
    readings = {"norm": quantities, "tuned": {name: values / 4 for name, values in quantities.items()}}

    metrics = depth_metrics(readings, num_blocks=8)

    kl = 1 + RowDivergence._fields.index("kl_from_final_bits")
    for percentile, row in ((25, 2), (50, 4), (75, 6)):
        assert metrics[f"val/kl_from_final_bits_norm_depth{percentile}"] == kl * row
        assert metrics[f"val/kl_from_final_bits_tuned_depth{percentile}"] == kl * row / 4
    assert metrics[PERCENTILE_KL] == pytest.approx(kl * (2 + 4 + 6) / 3 / 4)
    assert len(metrics) == 2 * 3 * 3 + 1
