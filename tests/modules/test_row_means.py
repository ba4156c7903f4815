import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from logos_pl.modules.row_means import RowMeans

NAMES = ("kl_bits", "agree")


def values(num_pos: int = 1000, num_rows: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    kl = torch.rand(num_rows, num_pos, generator=generator) * 10.0 ** torch.arange(num_rows)[:, None]
    return {"kl_bits": kl, "agree": torch.rand(num_rows, num_pos, generator=generator) < 0.3}


def cut(whole: dict[str, torch.Tensor], part: slice) -> dict[str, torch.Tensor]:
    return {name: value[:, part] for name, value in whole.items()}


def test_means_equal_numpy_in_fp64() -> None:
    metric = RowMeans(3, NAMES)
    metric.update(**values())
    for name, mean in metric.compute().items():
        wanted = np.zeros(3) if name == "nonfinite" else values()[name].double().numpy().mean(-1)
        np.testing.assert_allclose(mean.double().numpy(), wanted, rtol=1e-14)


def test_many_uneven_updates_equal_one() -> None:
    whole, parts = RowMeans(3, NAMES), RowMeans(3, NAMES)
    whole.update(**values())
    for start, stop in [(0, 1), (1, 400), (400, 400), (400, 999), (999, 1000)]:
        parts.update(**cut(values(), slice(start, stop)))
    for name, mean in whole.compute().items():
        torch.testing.assert_close(parts.compute()[name], mean, rtol=1e-14, atol=0)


def test_small_values_survive_a_million_large_ones() -> None:
    metric = RowMeans(2, ["kl_bits"])
    large = torch.full((2, 1000), 2.0**24)
    for _ in range(10):
        metric.update(kl_bits=large)
    for _ in range(10):
        metric.update(kl_bits=torch.full((2, 1000), 1.0))
    assert metric.compute()["kl_bits"].tolist() == [(2.0**24 + 1) / 2] * 2


def test_values_that_are_not_finite_are_counted_and_never_averaged_away() -> None:
    given = values(num_pos=4)
    given["kl_bits"][1, 2] = math.nan
    given["kl_bits"][2, 0] = math.inf
    given["kl_bits"][2, 3] = math.inf
    metric = RowMeans(3, NAMES)
    metric.update(**given)
    metric.update(**values(num_pos=4))
    found = metric.compute()
    assert found["nonfinite"].tolist() == [0, 1, 2]
    assert [math.isfinite(mean) for mean in found["kl_bits"].tolist()] == [True, False, False]
    assert bool(found["agree"].isfinite().all())


def test_reset_forgets_everything() -> None:
    metric = RowMeans(3, NAMES)
    metric.update(kl_bits=torch.full((3, 2), math.nan), agree=torch.ones(3, 2, dtype=torch.bool))
    metric.reset()
    metric.update(**values())
    assert metric.compute()["nonfinite"].tolist() == [0, 0, 0]
    assert bool(metric.compute()["kl_bits"].isfinite().all())


@pytest.mark.parametrize("names", [("kl_bits",), ("kl_bits", "agree", "entropy_bits")])
def test_other_quantities_than_its_own_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="agree"):
        RowMeans(3, NAMES).update(**dict.fromkeys(names, torch.ones(3, 2)))


def test_states_stay_in_fp64_when_the_module_around_them_is_cast() -> None:
    module = torch.nn.ModuleList([RowMeans(3, NAMES)]).half()
    assert module[0].sums.dtype == torch.float64


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    metric = RowMeans(3, NAMES)
    metric.update(**cut(values(), slice(0, 300) if rank == 0 else slice(300, 1000)))
    torch.save(metric.compute(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_with_unequal_shares_equal_one(tmp_path: Path) -> None:
    mp.start_processes(work, args=(str(tmp_path),), nprocs=2, start_method="spawn")
    whole = RowMeans(3, NAMES)
    whole.update(**values())
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, mean in whole.compute().items():
            torch.testing.assert_close(found[name], mean, rtol=1e-14, atol=0)
