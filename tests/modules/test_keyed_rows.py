from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from logos_pl.modules.keyed_rows import KeyedRows

KEYS = torch.tensor([7, 0, 3, 12, 1])
VALUES = torch.arange(10.0).view(5, 2)


def of(part: slice) -> KeyedRows:
    metric = KeyedRows(2)
    metric.update(KEYS[part], VALUES[part])
    return metric


def test_rows_come_back_sorted_by_key() -> None:
    found = of(slice(None)).compute()
    assert found.keys.tolist() == [0, 1, 3, 7, 12]
    assert found.values.tolist() == [[2, 3], [8, 9], [4, 5], [0, 1], [6, 7]]


def test_batches_leave_no_trace() -> None:
    metric = KeyedRows(2)
    for part in (slice(3, 5), slice(0, 0), slice(0, 3)):
        metric.update(KEYS[part], VALUES[part])
    found, wanted = metric.compute(), of(slice(None)).compute()
    assert torch.equal(found.keys, wanted.keys)
    assert torch.equal(found.values, wanted.values)


def test_a_single_row_of_a_single_number_keeps_its_shape() -> None:
    metric = KeyedRows(1)
    metric.update(torch.tensor([7]), torch.ones(1, 1))
    assert metric.compute().keys.tolist() == [7]
    assert metric.compute().values.tolist() == [[1.0]]


@pytest.mark.parametrize("forgotten", [False, True])
def test_nothing_read_is_an_empty_table(forgotten: bool) -> None:
    metric = KeyedRows(3)
    if forgotten:
        metric.update(torch.tensor([1]), torch.ones(1, 3))
        metric.reset()
    found = metric.compute()
    assert found.keys.shape == (0,)
    assert found.keys.dtype == torch.int64
    assert found.values.shape == (0, 3)


def test_reset_forgets_all_rows() -> None:
    metric = of(slice(None))
    metric.reset()
    metric.update(torch.tensor([7]), torch.ones(1, 2))
    assert metric.compute().keys.tolist() == [7]


def test_what_is_measured_twice_is_an_error() -> None:
    metric = of(slice(None))
    metric.update(torch.tensor([3]), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="twice"):
        metric.compute()


@pytest.mark.parametrize("values", [torch.zeros(2, 3), torch.zeros(3, 2), torch.zeros(2)])
def test_rows_that_do_not_fit_are_refused(values: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="2 keys"):
        KeyedRows(2).update(torch.tensor([1, 2]), values)


SHARES = {"unequal": (slice(0, 4), slice(4, 5)), "none for one": (slice(0, 5), None)}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    found = {}
    for name, shares in SHARES.items():
        share = shares[rank]
        metric = KeyedRows(2) if share is None else of(share)
        table = metric.compute()
        found[name] = [table.keys, table.values]
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one_even_where_one_has_nothing(tmp_path: Path) -> None:
    mp.start_processes(work, args=(str(tmp_path),), nprocs=2, start_method="spawn")
    whole = of(slice(None)).compute()
    for rank in range(2):
        for keys, values in torch.load(tmp_path / f"{rank}.pt", weights_only=True).values():
            assert torch.equal(keys, whole.keys)
            assert torch.equal(values, whole.values)
