"""One block's matrices are in place, the next block's at most on their way; all others stay on disk."""

from pathlib import Path

import pytest
import torch

from logos_pl.errors import RunError
from logos_pl.lm.block_weights import BlockWeights
from tests.lm.families import BLOCKS, tiny_model
from tests.lm.placed import hollow_parts, save


@pytest.fixture
def placed(tmp_path: Path) -> tuple[list[torch.nn.Module], BlockWeights]:
    source = save(tiny_model("llama"), tmp_path / "m")
    blocks, weights, _ = hollow_parts(source)
    return blocks, weights


def present(blocks: list[torch.nn.Module], weights: BlockWeights) -> list[int]:
    if weights._coming is not None:
        weights._coming[1].exception()
    return [
        number for number, block in enumerate(blocks) if not any(parameter.is_meta for parameter in block.parameters())
    ]


def test_two_blocks_at_most_have_numbers(placed: tuple[list[torch.nn.Module], BlockWeights]) -> None:
    blocks, weights = placed
    assert present(blocks, weights) == []
    for number in [0, 1, 2, 0, 1, 1, 0, 2]:  # in order, round and round, and out of order
        weights.take(number)
        assert present(blocks, weights) == sorted([number, (number + 1) % BLOCKS])


def test_what_is_read_for_a_block_is_counted_in_bytes(placed: tuple[list[torch.nn.Module], BlockWeights]) -> None:
    blocks, weights = placed
    wanted = [sum(p.nbytes for p in block.parameters() if p.ndim > 1) for block in blocks]
    assert weights.stored_bytes == wanted


def test_an_error_of_the_thread_is_raised_when_the_block_is_wanted(
    placed: tuple[list[torch.nn.Module], BlockWeights], tmp_path: Path
) -> None:
    blocks, weights = placed
    weights.take(0)
    present(blocks, weights)
    (tmp_path / "m" / "model.safetensors").unlink()
    weights.take(1)  # it was there already
    with pytest.raises(RunError, match="can no longer be read"):
        weights.take(2)
