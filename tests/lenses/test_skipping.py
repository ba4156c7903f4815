"""Perplexity with blocks left out, against models whose blocks really are cut off and logits in float64."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lenses.skipping import NextTokenSums, next_token_sums, skip_rows, skipping_sums
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from tests.tiny import make_model

IDS = torch.randint(1, 23, (3, 17), generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> FrozenLM:
    return FrozenLM.load(str(make_model(Path(tmp_path_factory.mktemp("tiny")))))


@pytest.fixture(scope="module")
def demo() -> FrozenLM:
    return FrozenLM.load("demo", dtype="float32")


def random_lens(lm: FrozenLM) -> TunedLens:
    translators = Translators(lm.num_blocks - 1, lm.d_model, 3)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in translators.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return TunedLens(translators.requires_grad_(False), Head(lm.anatomy))


def cut_off(lm: FrozenLM, num_blocks: int) -> nn.Module:
    """A copy of the model, in float64, that has only its first blocks."""
    model = copy.deepcopy(lm.model).double()
    model.model.layers = model.model.layers[:num_blocks]
    model.config.num_hidden_layers = num_blocks
    return model


def nats(logits: Tensor, ids: Tensor) -> float:
    return float(nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"))


@torch.no_grad()
def test_without_skipping_it_is_the_models_own_perplexity(lm: FrozenLM) -> None:
    rows = skip_rows(lm.num_blocks, [0]).rows
    found = skipping_sums(lm, random_lens(lm), IDS, list(rows.values()))
    own = lm.model(input_ids=IDS, labels=IDS).loss
    assert found.perplexities() == pytest.approx([math.exp(float(own))], rel=1e-5)
    assert found.num_tokens == 3 * 16


@torch.no_grad()
def test_under_the_norm_lens_it_is_a_model_whose_last_blocks_are_cut_off(lm: FrozenLM) -> None:
    rows = [3, 1, 4, 2]
    found = skipping_sums(lm, NormLens(Head(lm.anatomy)), IDS, rows)
    wanted = [nats(cut_off(lm, row)(input_ids=IDS).logits, IDS) for row in rows]
    assert found.nats.tolist() == pytest.approx(wanted, rel=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("row", [1, 2, 3])
@pytest.mark.parametrize("block_bytes", [1, 2000, 2**28])
def test_the_translator_of_the_row_stands_between_norm_and_head(lm: FrozenLM, row: int, block_bytes: int) -> None:
    lens = random_lens(lm)
    t = lens.translators
    x = cut_off(lm, row).model(input_ids=IDS).last_hidden_state
    u, v, c = (part[row - 1].double() for part in (t.U, t.V, t.c))
    tau = math.log1p(math.exp(float(t.log_tau[row - 1]))) + 1e-3
    logits = (x + x @ u @ v.T + c) @ lm.model.lm_head.weight.double().T / tau
    found = skipping_sums(lm, lens, IDS, [row], block_bytes=block_bytes)
    assert found.nats.tolist() == pytest.approx([nats(logits, IDS)], rel=1e-6)


@torch.no_grad()
def test_on_the_demo_every_number_of_skipped_blocks_agrees_with_float64(demo: FrozenLM) -> None:
    assert demo.tokenizer is not None
    ids = demo.tokenizer(
        "The capital of Germany is Berlin. The plural of mouse is mice.", return_tensors="pt"
    ).input_ids
    rows = skip_rows(demo.num_blocks, [0, 2, 4]).rows
    assert rows == {0: 8, 2: 6, 4: 4}
    found = skipping_sums(demo, NormLens(Head(demo.anatomy)), ids, list(rows.values()))
    wanted = [nats(cut_off(demo, row)(input_ids=ids).logits, ids) for row in rows.values()]
    assert found.nats.tolist() == pytest.approx(wanted, rel=1e-5)
    assert found.perplexities() == sorted(found.perplexities())


def test_only_the_blocks_that_are_needed_run_and_only_once(lm: FrozenLM) -> None:
    ran: list[int] = []
    handles = [
        block.register_forward_pre_hook(lambda module, args, index=index: ran.append(index))
        for index, block in enumerate(lm.anatomy.blocks)
    ]
    skipping_sums(lm, random_lens(lm), IDS, [2, 1])
    for handle in handles:
        handle.remove()
    assert ran == [0, 1]


def test_padding_neither_predicts_nor_is_predicted(lm: FrozenLM) -> None:
    lens, rows = random_lens(lm), [2, 4]
    ids, mask = torch.zeros_like(IDS), torch.zeros_like(IDS)
    wanted = NextTokenSums(torch.zeros(2, dtype=torch.float64), 0)
    for sequence, (length, start) in enumerate([(17, 0), (9, 8), (6, 0)]):
        own = IDS[sequence : sequence + 1, :length]
        ids[sequence, start : start + length], mask[sequence, start : start + length] = own[0], 1
        wanted = wanted.merged(skipping_sums(lm, lens, own, rows))
    found = skipping_sums(lm, lens, ids, rows, mask)
    assert found.num_tokens == wanted.num_tokens == 16 + 8 + 5
    torch.testing.assert_close(found.nats, wanted.nats, rtol=1e-5, atol=0)


def test_sums_of_batches_merge_to_the_sums_of_all(lm: FrozenLM) -> None:
    lens = random_lens(lm)
    whole = skipping_sums(lm, lens, IDS, [3])
    parts = skipping_sums(lm, lens, IDS[:1], [3]).merged(skipping_sums(lm, lens, IDS[1:], [3]))
    assert parts.num_tokens == whole.num_tokens
    torch.testing.assert_close(parts.nats, whole.nats, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["norm", "tuned"])
def test_cross_entropy_of_every_row_at_chosen_positions_agrees_with_dense_logits(lm: FrozenLM, kind: str) -> None:
    lens: Lens = random_lens(lm) if kind == "tuned" else NormLens(Head(lm.anatomy))
    positions = torch.tensor([[2, 9], [0, 15], [7, 8]])
    rows = list(range(lm.num_blocks + 1))
    h = residuals(lm, IDS, positions, rows).flatten(1, 2)
    targets = IDS.gather(1, positions + 1).flatten()
    found = next_token_sums(lens, h, rows, targets, block_bytes=500)
    log_q = lens.log_probs(h, rows).double()
    wanted = [float(-row[torch.arange(6), targets].sum()) for row in log_q]
    assert found.nats.tolist() == pytest.approx(wanted, rel=1e-5)
    assert found.bits_per_byte(31) == pytest.approx([value / math.log(2) / 31 for value in wanted], rel=1e-5)


def test_what_would_leave_no_block_to_run_is_not_applicable_and_says_why() -> None:
    found = skip_rows(4)
    assert found.rows == {2: 2}
    assert list(found.not_applicable) == [4, 8]
    assert found.not_applicable[8] == "the model has 4 blocks: skipping 8 would leave none to run"
    assert skip_rows(5).rows == {2: 3, 4: 1}


def test_no_tokens_have_no_perplexity() -> None:
    with pytest.raises(ValueError, match="no token"):
        NextTokenSums(torch.zeros(1, dtype=torch.float64), 0).perplexities()
