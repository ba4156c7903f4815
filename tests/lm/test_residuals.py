"""Rows and positions of the residual stream, against transformers' own hidden states and against prompts run alone."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import Request, gather, residuals
from logos_pl.lm.skipping import residuals_without_later_blocks
from tests.lm.families import BLOCKS, D_MODEL, FAMILIES, NAMES, VOCAB, every, tiny_model
from tests.lm.oracle import last_row

IDS = torch.randint(3, VOCAB, (3, 11), generator=torch.Generator().manual_seed(7))
ROWS = list(range(BLOCKS + 1))


def frozen(name: str, dtype: torch.dtype = torch.float32) -> FrozenLM:
    return FrozenLM.from_model(tiny_model(name, dtype))


@pytest.mark.parametrize("name", every(NAMES))
def test_rows_are_transformers_hidden_states_and_row_n_is_what_the_head_reads(name: str) -> None:
    lm = frozen(name)
    h = residuals(lm, IDS, None, ROWS)
    states = lm.model(input_ids=IDS, use_cache=False, output_hidden_states=True).hidden_states
    first = 1 if FAMILIES[name].stream_in_fp32 else 0  # Mamba's own list leaves the embedding out
    for row in range(first, BLOCKS):
        assert torch.equal(h[row], states[row - first])
    assert torch.equal(h[BLOCKS], last_row(lm.model, FAMILIES[name], IDS))


def test_positions_are_gathered_per_sequence_and_rows_come_in_the_order_asked() -> None:
    lm = frozen("llama")
    whole = residuals(lm, IDS, None, ROWS)
    positions = torch.tensor([[0, 4, 10], [3, 3, 5], [9, 1, 0]])
    rows = [3, 0, 2, 0]
    picked = residuals(lm, IDS, positions, rows)
    assert picked.shape == (4, 3, 3, D_MODEL)
    for slot, row in enumerate(rows):
        for sequence in range(3):
            for place, position in enumerate(positions[sequence].tolist()):
                assert torch.equal(picked[slot, sequence, place], whole[row, sequence, position])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", every(NAMES))
def test_padding_on_either_side_changes_no_tokens_numbers(name: str, side: str) -> None:
    lm = frozen(name)
    lengths = [11, 6, 3]
    ids, mask = torch.zeros_like(IDS), torch.zeros_like(IDS)
    for sequence, length in enumerate(lengths):
        place = slice(11 - length, 11) if side == "left" else slice(0, length)
        ids[sequence, place] = IDS[sequence, :length]
        mask[sequence, place] = 1
    h = residuals(lm, ids, None, ROWS, attention_mask=mask)
    logits = lm.logits(ids, attention_mask=mask)
    assert torch.isfinite(h).all()
    for sequence, length in enumerate(lengths):
        alone = residuals(lm, IDS[sequence : sequence + 1, :length], None, ROWS)[:, 0]
        place = slice(11 - length, 11) if side == "left" else slice(0, length)
        if not FAMILIES[name].project:  # OPT's project_in is a product, whose rounding depends on the batch's shape.
            assert torch.equal(h[0, sequence, place], alone[0])
        assert torch.allclose(h[:, sequence, place], alone, rtol=1e-5, atol=1e-5 * float(alone.abs().max()))
        wanted = lm.logits(IDS[sequence : sequence + 1, :length])[0]
        assert torch.allclose(logits[sequence, place], wanted, rtol=1e-5, atol=2e-5 * float(wanted.abs().max()))


def test_a_mask_of_ones_is_no_mask_bit_for_bit() -> None:
    lm = frozen("llama")
    assert torch.equal(
        residuals(lm, IDS, None, ROWS), residuals(lm, IDS, None, ROWS, attention_mask=torch.ones_like(IDS))
    )


@pytest.mark.parametrize("name", every(NAMES))
def test_the_head_never_runs(name: str) -> None:
    lm = frozen(name)

    def forbidden(*_: object) -> None:
        raise AssertionError("the head was called")

    lm.anatomy.lm_head.register_forward_pre_hook(forbidden)
    residuals(lm, IDS, torch.zeros(3, 1, dtype=torch.long), [BLOCKS])


def test_nothing_as_long_as_the_sequence_is_kept_when_positions_are_given() -> None:
    """What is alive after the forward is the gathered tensor: its storage holds no more than the rows asked for."""
    kept = residuals(frozen("gpt2"), IDS, torch.tensor([[2], [5], [1]]), [1, 2])
    assert kept.untyped_storage().nbytes() == 2 * 3 * 1 * D_MODEL * 4
    assert not kept.requires_grad


def test_residuals_can_be_saved_for_a_backward_pass() -> None:
    kept = residuals(frozen("llama"), IDS, None, [1])
    weight = torch.ones(D_MODEL, requires_grad=True)
    (kept * weight).sum().backward()
    assert torch.allclose(weight.grad, kept.sum((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "mamba", "mamba2"])
@pytest.mark.parametrize("positions", [None, torch.tensor([[0, 4, 10], [3, 3, 5], [9, 1, 0]])], ids=["every", "some"])
def test_the_dtype_is_the_streams_and_nothing_is_rounded(name: str, positions: Tensor | None) -> None:
    lm = frozen(name, torch.bfloat16)
    wrote: list[Tensor] = []
    handles = [block.register_forward_hook(lambda m, a, out: wrote.append(out)) for block in lm.anatomy.blocks]
    kept = residuals(lm, IDS, positions, ROWS)
    for handle in handles:
        handle.remove()
    assert kept.dtype == lm.stream_dtype == (torch.float32 if FAMILIES[name].stream_in_fp32 else torch.bfloat16)
    wanted = torch.stack(wrote)
    if positions is not None:
        wanted = wanted.gather(2, positions[None, :, :, None].expand(BLOCKS, -1, -1, D_MODEL))
    assert torch.equal(kept[1:], wanted)
    ((sampled, whole, _),) = gather(lm, [Request(IDS, torch.tensor([[2], [5], [1]]), [1], whole_rows=[2, 3])])
    assert sampled.dtype == whole.dtype == lm.stream_dtype


@pytest.mark.parametrize("read", [residuals, residuals_without_later_blocks])
def test_a_row_that_would_be_rounded_is_refused(read: Callable[..., Tensor]) -> None:
    lm = frozen("mamba", torch.bfloat16)
    lm.anatomy = dataclasses.replace(lm.anatomy, stream_dtype=torch.bfloat16)
    with pytest.raises(TypeError, match=r"row 1 of the model is torch.float32, and cannot be kept in torch.bfloat16"):
        read(lm, IDS, rows=[1], **({"positions": None} if read is residuals else {}))


def test_hooks_go_away_also_when_the_forward_fails() -> None:
    lm = frozen("llama")

    def fail(module: nn.Module, args: tuple[Any, ...]) -> Tensor:
        raise RuntimeError("broken block")

    handle = lm.anatomy.blocks[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="broken block"):
        residuals(lm, IDS, None, ROWS)
    handle.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in lm.model.modules())


@pytest.mark.parametrize("rows", [[-1], [BLOCKS + 1]])
def test_a_row_outside_the_model_is_refused(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="outside 0 … 3"):
        residuals(frozen("llama"), IDS, None, rows)


@pytest.mark.parametrize("position", [-1, 11])
def test_a_position_outside_the_sequence_is_refused(position: int) -> None:
    with pytest.raises(ValueError, match="positions must lie in 0 … 10"):
        residuals(frozen("llama"), IDS, torch.full((3, 1), position), [1])
