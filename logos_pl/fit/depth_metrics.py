"""Logged metrics of a validation: readings at the depth percentiles."""

from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.modules.base import Readings

PERCENTILE_KL = "val/kl_from_final_bits_percentile_mean"
"""Metric for early stopping and for the best checkpoint: KL(P_final‖P_row) of the tuned lens in bits,
mean over the rows at 25, 50 and 75% depth. It is the divergence that is trained on."""


def depth_metrics(readings: Readings, num_blocks: int) -> dict[str, float]:
    """Metrics of every lens at the depth percentiles, and the mean of the tuned lens's KL there.

    Args:
        readings: Means for rows 0 to n, with those of the tuned lens.
        num_blocks: Number of blocks, n.
    """
    percentiles = depth_percentile_rows(num_blocks)
    metrics = {
        f"val/{quantity}_{name}_depth{percentile}": float(reading[quantity][row])
        for name, reading in readings.items()
        for quantity in ("kl_from_final_bits", "kl_to_final_bits", "top1_agree")
        for percentile, row in percentiles.items()
    }
    tuned = [metrics[f"val/kl_from_final_bits_tuned_depth{percentile}"] for percentile in percentiles]
    metrics[PERCENTILE_KL] = sum(tuned) / len(tuned)
    return metrics
