import pytest
import torch

from benchmarks.jacobian import SKIP_FIRST, main, replicated, vmapped
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.row_gradients import mean_gradients
from tests.lm.families import VOCAB, tiny_model


def test_all_ways_give_the_same_gradients() -> None:
    lm = FrozenLM.from_model(tiny_model("gpt2"))  # whose attention has a batching rule for vmap
    ids = torch.randint(VOCAB, (2, 20), generator=torch.Generator().manual_seed(0))
    ours = torch.stack(list(mean_gradients(lm, ids, torch.arange(5).expand(2, -1), SKIP_FIRST)))
    for number in range(2):
        torch.testing.assert_close(replicated(lm, ids[number], 5, 4), ours[:, :, number], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vmapped(lm, ids, 5, 4), ours, rtol=1e-4, atol=1e-5)


def test_a_run_prints_each_way_with_its_ratio_to_the_forward_pass(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--seqs", "1", "--seq_len", "18", "--dims", "1", "--dim_batch", "1", "--repeats", "1"])
    said = capsys.readouterr().out
    for name in ("forward", "ours", "vmapped", "replicated"):
        assert f"\n{name} " in said
    assert "1 of 128 output dimensions" in said
