"""Rows from the first blocks alone, against the rows of whole forwards, for every family."""

from typing import Any

import pytest
import torch
from torch import nn

from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from logos_pl.lm.skipping import residuals_without_later_blocks
from tests.lm.families import BLOCKS, D_MODEL, NAMES, VOCAB, every, tiny_model

IDS = torch.randint(3, VOCAB, (3, 11), generator=torch.Generator().manual_seed(7))


def frozen(name: str, dtype: torch.dtype = torch.float32) -> FrozenLM:
    return FrozenLM.from_model(tiny_model(name, dtype))


def forbid(module: nn.Module) -> torch.utils.hooks.RemovableHandle:
    def refuse(*_: object) -> None:
        raise AssertionError("a module ran that is not needed")

    return module.register_forward_pre_hook(refuse)


@pytest.mark.parametrize("name", every(NAMES))
def test_rows_are_those_of_a_whole_forward_and_later_blocks_and_the_head_never_run(name: str) -> None:
    lm = frozen(name)
    for row in range(1, BLOCKS + 1):
        wanted = residuals(lm, IDS, None, [row])
        handles = [forbid(module) for module in [*lm.anatomy.blocks[row:], lm.anatomy.lm_head]]
        assert torch.equal(residuals_without_later_blocks(lm, IDS, [row]), wanted)
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("name", every(NAMES))
def test_the_model_is_the_same_afterwards(name: str) -> None:
    lm = frozen(name)
    before = lm.logits(IDS)
    hooks = [len(block._forward_hooks) for block in lm.anatomy.blocks]
    residuals_without_later_blocks(lm, IDS, [1])
    assert torch.equal(lm.logits(IDS), before)
    assert [len(block._forward_hooks) for block in lm.anatomy.blocks] == hooks


def test_one_forward_gives_several_rows_in_any_order_and_again() -> None:
    lm = frozen("llama")
    calls: list[int] = []
    lm.anatomy.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    forbid(lm.anatomy.blocks[2])
    found = residuals_without_later_blocks(lm, IDS, [2, 1, 2, 1])
    assert len(calls) == 1
    assert torch.equal(found[0], found[2])
    assert [
        torch.equal(found[i], residuals_without_later_blocks(lm, IDS, [row])[0]) for i, row in [(0, 2), (1, 1)]
    ] == [
        True,
        True,
    ]


def test_padding_on_the_left_changes_no_tokens_numbers() -> None:
    lm = frozen("llama")
    ids, mask = torch.zeros_like(IDS[:1]), torch.zeros_like(IDS[:1])
    ids[0, 5:], mask[0, 5:] = IDS[0, :6], 1
    found = residuals_without_later_blocks(lm, ids, [2], mask)[0, 0, 5:]
    torch.testing.assert_close(found, residuals_without_later_blocks(lm, IDS[:1, :6], [2])[0, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "dtype"), [("llama", torch.bfloat16), ("mamba", torch.float32)])
def test_what_is_kept_is_the_streams_dtype_and_a_copy(name: str, dtype: torch.dtype) -> None:
    lm = frozen(name, torch.bfloat16)
    outputs: list[torch.Tensor] = []
    lm.anatomy.blocks[0].register_forward_hook(lambda module, args, output: outputs.append(output))
    found = residuals_without_later_blocks(lm, IDS, [1])
    assert (found.dtype, found.shape, found.requires_grad) == (dtype, (1, 3, 11, D_MODEL), False)
    assert torch.equal(found[0], outputs[0])
    assert found.data_ptr() != outputs[0].data_ptr()


@pytest.mark.parametrize("rows", [[], [0], [BLOCKS + 1], [-1, 1]])
def test_rows_no_block_gives_are_refused(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="must be one or more of 1 … 3"):
        residuals_without_later_blocks(frozen("llama"), IDS, rows)


def test_hooks_go_away_also_when_a_block_fails() -> None:
    lm = frozen("llama")

    def fail(module: nn.Module, args: tuple[Any, ...]) -> None:
        raise RuntimeError("broken block")

    handle = lm.anatomy.blocks[0].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="broken block"):
        residuals_without_later_blocks(lm, IDS, [1, 2])
    handle.remove()
    assert not any(block._forward_hooks for block in lm.anatomy.blocks)
