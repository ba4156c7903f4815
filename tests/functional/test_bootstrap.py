"""Intervals against resamples that are written out and measured one by one with NumPy."""

import math
import time

import numpy as np
import pytest
import torch

from logos_pl.functional import bootstrap
from logos_pl.functional.bootstrap import Interval, bootstrap_interval, bootstrap_mean_of_groups

MEASURES = {"median": np.median, "mean": np.mean}


def draw(num_clusters: int, resamples: int, seed: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_clusters, (resamples, num_clusters), generator=generator).numpy()


def brute_force(samples: np.ndarray, statistic: str, clusters: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """The ends of the interval, every resample put together sample by sample."""
    groups = [samples[clusters == name] for name in np.unique(clusters)]
    found = [
        MEASURES[statistic](np.concatenate([groups[which] for which in drawn]))
        for drawn in draw(len(groups), resamples, seed)
    ]
    return np.quantile(found, [0.025, 0.975])


def random_samples(num: int, seed: int = 0) -> torch.Tensor:
    # Rounded, so that many are equal, as ranks and shifts are.
    return (torch.randn(num, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 4).round() / 4


@pytest.mark.parametrize("statistic", ["median", "mean"])
@pytest.mark.parametrize("num", [2, 3, 6, 41])
@pytest.mark.parametrize("strip", [1, 3, 4, 256])
def test_independent_samples_give_the_interval_of_written_out_resamples(
    statistic: str, num: int, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_STRIP", strip)
    samples = random_samples(num)
    # A sample is its own cluster, named by where it stands.
    wanted = brute_force(samples.numpy(), statistic, np.arange(num), 300, 7)
    found = bootstrap_interval(samples, statistic, resamples=300, seed=7)
    assert found is not None
    assert (found.estimate, found.num) == (pytest.approx(MEASURES[statistic](samples.numpy()), abs=1e-12), num)
    assert (found.low, found.high) == pytest.approx(tuple(wanted), abs=1e-12)


@pytest.mark.parametrize("statistic", ["median", "mean"])
@pytest.mark.parametrize("strip", [1, 4, 256])
@pytest.mark.parametrize("num_clusters", [2, 9])
def test_clusters_of_unequal_sizes_are_drawn_whole(
    statistic: str, strip: int, num_clusters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "_STRIP", strip)
    samples = random_samples(73)
    clusters = torch.arange(73).square() % 97 % num_clusters * 5 - 3
    wanted = brute_force(samples.numpy(), statistic, clusters.numpy(), 300, 1)
    found = bootstrap_interval(samples, statistic, clusters=clusters, resamples=300, seed=1)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(wanted), abs=1e-12)
    assert found.estimate == pytest.approx(MEASURES[statistic](samples.numpy()))


def test_strips_widen_where_the_table_would_be_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = random_samples(500)
    whole = bootstrap_interval(samples, "median")
    monkeypatch.setattr(bootstrap, "_STRIP", 1)
    monkeypatch.setattr(bootstrap, "_TABLE", 5000)
    assert bootstrap_interval(samples, "median") == whole
    assert bootstrap._Median(samples.sort().values, torch.arange(500)).table.numel() <= 5000


@pytest.mark.parametrize("statistic", ["median", "mean"])
@pytest.mark.parametrize("block_counts", [1, 1000, 10**6])
def test_blocks_and_repetition_change_nothing_and_the_seed_does(statistic: str, block_counts: int) -> None:
    samples = torch.randn(37, generator=torch.Generator().manual_seed(3))
    clusters = torch.arange(37) // 4
    torch.manual_seed(block_counts)
    found = bootstrap_interval(samples, statistic, clusters=clusters, block_counts=block_counts)
    assert found == bootstrap_interval(samples, statistic, clusters=clusters)
    assert bootstrap_interval(samples, statistic, resamples=50) != bootstrap_interval(
        samples, statistic, resamples=50, seed=1
    )


def test_the_order_of_the_samples_within_their_clusters_does_not_matter() -> None:
    samples, clusters = random_samples(60), torch.arange(60) // 5
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert bootstrap_interval(samples, "median", clusters=clusters) == bootstrap_interval(
        samples[order], "median", clusters=clusters[order]
    )


def test_samples_that_hang_together_have_a_wider_interval() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(50, generator=generator)
    samples = (centres[:, None] + 0.1 * torch.randn(50, 40, generator=generator)).flatten()
    clusters = torch.arange(50).repeat_interleave(40)
    for statistic in ("median", "mean"):
        apart, together = (bootstrap_interval(samples, statistic, clusters=c) for c in (None, clusters))
        assert apart is not None
        assert together is not None
        assert (together.high - together.low) > 3 * (apart.high - apart.low)
        assert together.estimate == apart.estimate


@pytest.mark.parametrize(("statistic", "clustered"), [("mean", False), ("median", False), ("mean", True)])
def test_nineteen_of_twenty_intervals_hold_the_true_value(statistic: str, clustered: bool) -> None:
    generator = torch.Generator().manual_seed(5)
    hits = 0
    for trial in range(300):
        samples = torch.randn(60, generator=generator)
        clusters = None
        if clustered:
            samples = (samples[:, None] + torch.randn(60, 3, generator=generator)).flatten()
            clusters = torch.arange(180) // 3
        found = bootstrap_interval(samples, statistic, clusters=clusters, resamples=400, seed=trial)
        assert found is not None
        hits += found.low <= 0 <= found.high
    assert 0.90 <= hits / 300 <= 0.99


def test_no_samples_have_no_interval_and_one_has_no_width() -> None:
    assert bootstrap_interval(torch.empty(0), "median") is None
    assert bootstrap_interval(torch.empty(0), "mean", clusters=torch.empty(0, dtype=torch.long)) is None
    assert bootstrap_interval(torch.tensor([2.5]), "median") == Interval(2.5, 2.5, 2.5, 1)
    one_cluster = bootstrap_interval(torch.tensor([1.0, 2.0, 6.0]), "mean", clusters=torch.tensor([4, 4, 4]))
    assert one_cluster == Interval(3.0, 3.0, 3.0, 3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_sample_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_interval(torch.tensor([1.0, value, 2.0]), "mean")


def test_a_hundred_thousand_positions_take_seconds_at_most() -> None:
    samples = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    bootstrap_interval(samples, "median", clusters=torch.arange(100_000) // 200)
    assert time.perf_counter() - start < 10


def test_groups_count_alike_and_are_each_resampled_by_themselves() -> None:
    groups = [random_samples(num, seed) for seed, num in enumerate((5, 40, 5))]
    drawn = [draw(len(group), 300, 7 + number) for number, group in enumerate(groups)]
    means = [
        np.mean([group.numpy()[of_group[resample]].mean() for group, of_group in zip(groups, drawn, strict=True)])
        for resample in range(300)
    ]
    found = bootstrap_mean_of_groups([*groups, groups[0][:0]], resamples=300, seed=7)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-12)
    assert found.estimate == pytest.approx(np.mean([float(group.mean()) for group in groups]), abs=1e-12)
    assert found.num == 50


def test_groups_without_samples_have_no_interval_and_infinite_samples_are_refused() -> None:
    assert bootstrap_mean_of_groups([torch.empty(0)]) is None
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_mean_of_groups([torch.tensor([1.0, math.inf])])
