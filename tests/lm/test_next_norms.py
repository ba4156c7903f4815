"""The norm that reads each row next, in every family and in blocks made for it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from logos_pl.lm.anatomy import find_parts
from logos_pl.lm.next_norms import next_norms
from logos_pl.lm.trace import record_calls
from tests.lm.families import BLOCKS, FAMILIES, NAMES, every, tiny_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", every(NAMES))
def test_the_next_norm_is_the_one_that_reads_the_row(name: str, dtype: torch.dtype) -> None:
    family, model = FAMILIES[name], tiny_model(name, dtype)
    norms = find_parts(model).next_norms
    if family.next_norm is None:
        assert norms is None
        return
    assert norms is not None
    assert len(norms) == BLOCKS
    assert norms[1] is model.get_submodule(family.next_norm)


def test_a_post_norm_block_decodes_its_row_with_its_own_second_norm() -> None:
    model = tiny_model("opt_post_norm")
    blocks = model.model.decoder.layers
    norms = find_parts(model).next_norms
    assert norms == [blocks[0].self_attn_layer_norm, blocks[0].final_layer_norm, blocks[1].final_layer_norm]


class Block(nn.Module):
    """A block with two norms and a linear layer, put together as ``wiring`` says."""

    def __init__(self, wiring: Callable[["Block", Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.linear = nn.LayerNorm(6), nn.LayerNorm(6), nn.Linear(6, 6)
        self.wiring = wiring

    def forward(self, h: Tensor) -> Tensor:
        return self.wiring(self, h)


def found(wiring: Callable[[Block, Tensor], Tensor], before: nn.Module | None = None) -> tuple[list[nn.Module], object]:
    """Two such blocks, behind a module if one is given, and what is found in them."""
    torch.manual_seed(0)
    blocks: list[nn.Module] = [Block(wiring), Block(wiring)]
    model = nn.Sequential(*([] if before is None else [before]), *blocks)
    watched = [m for m in model.modules() if m is not model]
    calls, _ = record_calls(lambda: model(torch.randn(2, 3, 6)), watched)
    return blocks, next_norms(blocks, calls)


def test_where_both_branches_of_a_block_read_the_row_the_first_norm_counts() -> None:
    blocks, norms = found(lambda b, h: h + b.linear(b.first(h)) + b.linear(b.second(h)))
    assert norms == [block.first for block in blocks]


def test_a_norm_that_reads_what_a_branch_has_changed_is_not_taken() -> None:
    blocks, norms = found(lambda b, h: h + b.linear(b.second(b.first(h))))
    assert norms == [block.first for block in blocks]
    blocks, norms = found(lambda b, h: (lambda mid: mid + b.linear(b.second(mid)))(h + b.linear(h)))
    assert norms is None


def test_a_norm_that_makes_the_blocks_output_decodes_it_and_row_0_gets_the_first_of_block_1() -> None:
    blocks, norms = found(lambda b, h: b.second(h + b.linear(b.first(h + b.linear(h)))))
    assert norms == [blocks[0].first, blocks[0].second]


def test_a_norm_outside_of_the_blocks_is_none_of_theirs() -> None:
    blocks, norms = found(lambda b, h: h + b.linear(b.first(h)), before=nn.LayerNorm(6))
    assert norms == [block.first for block in blocks]
    _, norms = found(lambda b, h: h + b.linear(h), before=nn.LayerNorm(6))
    assert norms is None
