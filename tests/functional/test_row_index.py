import pytest
import torch

from logos_pl.functional.row_index import among_all_rows, row_index

CPU = torch.device("cpu")


@pytest.mark.parametrize("rows", [[], [3], [5, 0, 2], [1, 1]])
def test_rows_keep_their_order_and_index_a_tensor(rows: list[int]) -> None:
    index = row_index(rows, CPU)
    assert (index.dtype, index.tolist()) == (torch.long, rows)
    x = torch.randn(6, 4)
    assert torch.equal(x.index_select(0, index), torch.stack([x[row] for row in rows]) if rows else x[:0])


def test_on_a_cpu_no_memory_is_pinned() -> None:
    assert not row_index([0, 1], CPU).is_pinned()


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_nothing_waits_for_the_work_that_is_queued() -> None:
    device = torch.device("cuda")
    row_index([0], device)  # CUDA is set up at the first call
    try:
        torch.cuda.set_sync_debug_mode("error")
        index = row_index([5, 0, 2], device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (index.device.type, index.tolist()) == ("cuda", [5, 0, 2])


def test_values_of_some_rows_stand_among_all_of_them_and_nothing_stands_at_the_others() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    placed = among_all_rows(values, (1, 3), 4)
    assert torch.equal(placed[[1, 3]], values)
    assert placed[[0, 2]].isnan().all()
    assert among_all_rows(torch.tensor([5, 6]), (1, 2), 3, 0).tolist() == [0, 5, 6]
    assert among_all_rows(values, (0, 1), 2) is values
