from typing import Any

import pytest
import torch
from torch import Tensor

from logos_pl.errors import InputError
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.row_gradients import mean_gradients
from tests.lm.families import D_MODEL, VOCAB, tiny_model

SEQ, SKIP = 6, 2


def tokens(batch: int = 2, seq: int = SEQ) -> Tensor:
    return torch.randint(0, VOCAB, (batch, seq), generator=torch.Generator().manual_seed(5))


def brute_force(lm: FrozenLM, ids: Tensor, row: int) -> Tensor:
    """Mean Jacobian of one sequence: the whole ∂h_n/∂h_row by torch, then the sums of the definition."""
    blocks = lm.anatomy.blocks
    read: dict[int, Tensor] = {}

    def keep(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        read[row] = (args[0] if args else kwargs["hidden_states"]).detach()

    if row < len(blocks):
        handle = blocks[row].register_forward_pre_hook(keep, with_kwargs=True)
        lm.anatomy.body(input_ids=ids[None], use_cache=False)
        handle.remove()

    def last_row(h: Tensor) -> Tensor:
        out: list[Tensor] = []

        def replace(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return ((h, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": h})

        def take(module: Any, args: tuple[Any, ...], output: Any) -> None:
            out.append(output[0] if isinstance(output, tuple) else output)

        handles = [
            blocks[row].register_forward_pre_hook(replace, with_kwargs=True),
            blocks[-1].register_forward_hook(take),
        ]
        lm.anatomy.body(input_ids=ids[None], use_cache=False)
        for one in handles:
            one.remove()
        return out[0][0]

    whole = torch.autograd.functional.jacobian(last_row, read[row])[:, :, 0]  # [t', out, t, in]
    valid = range(SKIP, SEQ - 1)
    total = torch.zeros(D_MODEL, D_MODEL, dtype=torch.float64)
    for t in valid:
        for later in valid:
            if later >= t:
                total += whole[later, :, t]
            else:
                assert not whole[later, :, t].any(), "no position may change an earlier one"
    return total / len(valid)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "gpt_neox", "mamba"])
def test_every_dimension_of_every_row_is_the_mean_jacobian_by_brute_force(family: str) -> None:
    lm = FrozenLM.from_model(tiny_model(family).double())
    ids = tokens()
    every = torch.arange(D_MODEL).expand(2, -1)
    found = torch.stack(list(mean_gradients(lm, ids, every, SKIP)), dim=2)  # [rows, batch, out, in]
    assert found.shape == (lm.num_blocks, 2, D_MODEL, D_MODEL)
    for row, sequence in ((0, 0), (1, 1), (2, 0)):
        wanted = brute_force(lm, ids[sequence], row)
        # Norms and softmax are in single precision in every model, so not even double precision is exact.
        assert float((found[row, sequence].double() - wanted).norm() / wanted.norm()) < 3e-6


def test_each_sequence_gets_the_dimensions_it_asks_for() -> None:
    lm, ids = FrozenLM.from_model(tiny_model("llama")), tokens(3)
    alone = [
        torch.stack(list(mean_gradients(lm, ids[i : i + 1], torch.tensor([[4, 7, 31]]), SKIP)))[:, :, 0]
        for i in range(3)
    ]
    dims = torch.tensor([[4, 7, 31], [31, 4, 7], [7, 7, 4]])
    place = {4: 0, 7: 1, 31: 2}
    for probe, found in enumerate(mean_gradients(lm, ids, dims, SKIP)):
        for sequence in range(3):
            wanted = alone[sequence][place[int(dims[sequence, probe])]]
            torch.testing.assert_close(found[:, sequence], wanted, rtol=1e-4, atol=1e-6)


def test_the_weights_stay_frozen_and_nothing_is_left_behind() -> None:
    lm = FrozenLM.from_model(tiny_model("llama"))
    with torch.no_grad():  # as a caller may be
        found = list(mean_gradients(lm, tokens(), torch.zeros(2, 1, dtype=torch.long), SKIP))
    assert not found[0].requires_grad
    assert all(not part.requires_grad and part.grad is None for part in lm.model.parameters())
    assert not lm.anatomy.blocks[0]._forward_pre_hooks


def test_gradients_of_a_model_in_half_precision_are_single_precision() -> None:
    lm = FrozenLM.from_model(tiny_model("llama").bfloat16())
    exact = FrozenLM.from_model(tiny_model("llama").bfloat16().float())
    dims = torch.tensor([[1], [2]])
    (half,), (single,) = (list(mean_gradients(given, tokens(), dims, SKIP)) for given in (lm, exact))
    assert half.dtype == torch.float32
    assert float((half - single).norm() / single.norm()) < 0.1


@pytest.mark.parametrize("skip", [-1, SEQ - 1, SEQ])
def test_a_sequence_without_a_valid_position_is_refused(skip: int) -> None:
    lm = FrozenLM.from_model(tiny_model("llama"))
    with pytest.raises(ValueError, match=f"no position of {SEQ} is left without the first {skip} and the last"):
        next(mean_gradients(lm, tokens(), torch.zeros(2, 1, dtype=torch.long), skip))


@pytest.mark.parametrize(("part", "how"), [("streamed", "streamed"), ("sharing", "sharded")])
def test_a_model_that_is_not_in_memory_as_a_whole_is_refused(
    part: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = FrozenLM.from_model(tiny_model("llama"), model_id="org/large")
    monkeypatch.setattr(lm, part, object())
    with pytest.raises(InputError, match=f"org/large is {how}, and gradients need all of its blocks"):
        next(mean_gradients(lm, tokens(), torch.zeros(2, 1, dtype=torch.long), SKIP))
