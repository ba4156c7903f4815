"""What the gates are evaluated by against a brute force in float64, one prompt, one row and one position at a time."""

import math
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from logos_pl.data.packed_text import TextBatch
from logos_pl.data.prompt_types import AnswerTokens
from logos_pl.data.prompts import PromptBatch, TokenizedPrompt, batches
from logos_pl.functional.depth import depth_percentile_rows
from logos_pl.gates.evaluator import GateEvaluator, GateReadings
from logos_pl.lenses.calibration import TemperedLens
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.residuals import gather
from tests.sweeps.test_reader import PROMPTS, Subject
from tests.sweeps.test_reader import tokenized as resolved_or_none

SEQ_LEN = 9
TEXTS = torch.randint(1, 97, (4, SEQ_LEN), generator=torch.Generator().manual_seed(6))
POSITIONS = torch.tensor([[2, 8], [0, 5], [7, 8], [3, 4]])


class EvaluatorCase(Subject):
    """A subject with all four lenses, in fp32 and in float64."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.num_rows = self.lm.num_blocks + 1
        self.inv_tau = torch.linspace(0.5, 1.5, self.num_rows)
        self.inv_tau[-1] = 1.0
        head = self.lenses["norm"].head
        self.bias = Translators(self.lm.num_blocks - 1, self.lm.d_model, 0)
        with torch.no_grad():
            self.bias.c.copy_(0.5 * self.translators.c)
        self.lenses["norm_tau"] = TemperedLens(self.lenses["norm"], self.inv_tau)
        self.lenses["bias"] = TunedLens(self.bias, head)

    def evaluator(self, prompts: Sequence[TokenizedPrompt], block_bytes: int = 3 * 97 * 4) -> GateEvaluator:
        return GateEvaluator(self.lm, self.lenses, prompts, block_bytes)

    def log_q(self, lens: str, row: int, h: Tensor) -> Tensor:
        if lens == "norm_tau":
            z = self.logits64("norm", row, h) * float(self.inv_tau[row])
        elif lens == "bias":
            own, self.translators = self.translators, self.bias
            z = self.logits64("tuned", row, h)
            self.translators = own
        else:
            z = self.logits64(lens, row, h)
        return torch.log_softmax(z, dim=0)

    def final(self, rows: list[Tensor], pos: int) -> Tensor:
        return self.log_q("norm", self.lm.num_blocks, rows[-1][pos])


@pytest.fixture(scope="module", params=["llama", "gemma2"])
def case(request: pytest.FixtureRequest) -> EvaluatorCase:
    return EvaluatorCase(request.param)


def prompts() -> list[TokenizedPrompt]:
    """Prompts with an answer of one token, of three, without one, and with one that is not resolved."""
    prompts = [resolved_or_none(number) for number in range(len(PROMPTS))]
    return [*prompts[:3], prompts[3]._replace(answer_tokens=AnswerTokens("unresolved"))]


def kl_bits(log_p: Tensor, log_q: Tensor) -> float:
    return float((log_p.exp() * (log_p - log_q)).sum()) / math.log(2)


def text_batch(indices: tuple[int, ...]) -> TextBatch:
    return TextBatch(TEXTS[list(indices)], POSITIONS[list(indices)], {}, indices)


def read_text(evaluator: GateEvaluator, batch: TextBatch) -> None:
    evaluator.read_text(batch, gather(evaluator.lm, [evaluator.request(batch)])[0])


def read_prompts(evaluator: GateEvaluator, batch: PromptBatch) -> None:
    evaluator.read_prompts(batch, gather(evaluator.lm, [evaluator.request(batch)])[0])


def evaluated(
    case: EvaluatorCase, texts: Sequence[tuple[int, ...]], tokens_per_batch: int, reverse: bool = False
) -> GateReadings:
    evaluator = case.evaluator(prompts())
    for indices in texts:
        read_text(evaluator, text_batch(indices))
    together = batches(prompts(), tokens_per_batch)
    for batch in together[::-1] if reverse else together:
        read_prompts(evaluator, batch)
    return evaluator.compute()


@pytest.fixture(scope="module")
def found(case: EvaluatorCase) -> GateReadings:
    return evaluated(case, [(3, 1), (0, 2)], 10_000)


def test_every_figure_after_a_prompt_is_that_of_float64(case: EvaluatorCase, found: GateReadings) -> None:
    assert [prompt.answer_status for prompt in found.prompts] == ["resolved", "resolved", "none", "unresolved"]
    for prompt, figures in zip(prompts(), found.prompts, strict=True):
        rows, at = case.rows64(prompt.ids), len(prompt.ids) - 1
        final, answer = case.final(rows, at), prompt.answer_tokens.first_id
        assert figures.prompt_id == prompt.prompt.prompt_id
        assert figures.last_layer_kl_after_temp_bits == pytest.approx(0, abs=1e-5)
        ranks: dict[str, list[int]] = {}
        for lens, of_lens in figures.lenses.items():
            log_q = [case.log_q(lens, row, h[at]) for row, h in enumerate(rows)]
            assert of_lens.kl_to_final_bits == pytest.approx([kl_bits(q, final) for q in log_q], abs=1e-4)
            assert of_lens.kl_from_final_bits == pytest.approx([kl_bits(final, q) for q in log_q], abs=1e-4)
            if answer is None:
                assert of_lens.answer_rank is None
            else:
                ranks[lens] = [1 + int((q > q[answer]).sum()) for q in log_q]
                assert of_lens.answer_rank == ranks[lens]
        assert figures.final_rank == (None if answer is None else ranks["norm"][-1])
    assert list(found.prompts[0].lenses) == ["tuned", "norm", "norm_tau", "bias"]


def test_every_figure_at_a_position_of_text_is_that_of_float64(case: EvaluatorCase, found: GateReadings) -> None:
    assert found.text.sequences.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for lens in case.lenses:
        for slot, row in enumerate(depth_percentile_rows(case.lm.num_blocks).values()):
            to_final, from_final = [], []
            for ids, positions in zip(TEXTS.tolist(), POSITIONS.tolist(), strict=True):
                rows = case.rows64(tuple(ids))
                for pos in positions:
                    final, log_q = case.final(rows, pos), case.log_q(lens, row, rows[row][pos])
                    to_final.append(kl_bits(log_q, final))
                    from_final.append(kl_bits(final, log_q))
            assert found.text.kl_to_final_bits[lens][slot].tolist() == pytest.approx(to_final, abs=1e-4)
            assert found.text.kl_from_final_bits[lens][slot].tolist() == pytest.approx(from_final, abs=1e-4)


def test_means_per_row_are_those_of_float64_and_only_what_is_followed_is_predicted(
    case: EvaluatorCase, found: GateReadings
) -> None:
    all_rows = [case.rows64(tuple(ids)) for ids in TEXTS.tolist()]
    where = [(text, pos) for text, positions in enumerate(POSITIONS.tolist()) for pos in positions]
    for lens in ("norm", "tuned"):
        for row in range(case.num_rows):
            log_q = {(text, pos): case.log_q(lens, row, all_rows[text][row][pos]) for text, pos in where}
            final = {(text, pos): case.final(all_rows[text], pos) for text, pos in where}
            wanted = {
                "kl_to_final_bits": sum(kl_bits(log_q[key], final[key]) for key in where) / len(where),
                "kl_from_final_bits": sum(kl_bits(final[key], log_q[key]) for key in where) / len(where),
                "top1_agree": sum(int(log_q[key].argmax() == final[key].argmax()) for key in where) / len(where),
            }
            for quantity, mean in wanted.items():
                assert float(found.rows[lens][quantity][row]) == pytest.approx(mean, abs=1e-4)
            nats = [-float(log_q[text, pos][TEXTS[text, pos + 1]]) for text, pos in where if pos < SEQ_LEN - 1]
            assert len(nats) == 6
            assert float(found.next_token_nats[lens][row]) == pytest.approx(sum(nats) / 6, abs=1e-4)


def test_special_tokens_that_follow_stand_for_no_text(
    case: EvaluatorCase, found: GateReadings, monkeypatch: pytest.MonkeyPatch
) -> None:
    special = int(TEXTS[1, 1])  # after position 0 of text 1
    assert (TEXTS.gather(1, (POSITIONS + 1).clamp(max=SEQ_LEN - 1)) == special).sum() == 1
    monkeypatch.setattr(case.lm, "tokenizer", SimpleNamespace(all_special_ids=[special, 96]))
    without = evaluated(case, [(3, 1), (0, 2)], 10_000)
    rows = case.rows64(tuple(TEXTS[1].tolist()))
    for row in range(case.num_rows):
        own = -float(case.log_q("tuned", row, rows[row][0])[special])
        whole, rest = (float(of.next_token_nats["tuned"][row]) for of in (found, without))
        assert 5 * rest == pytest.approx(6 * whole - own, abs=1e-3)
    assert without.skips == found.skips


def test_the_skip_check_predicts_every_token_but_the_first_from_the_tuned_lens(
    case: EvaluatorCase, found: GateReadings
) -> None:
    n = case.lm.num_blocks
    assert found.skips.num_tokens == 4 * (SEQ_LEN - 1)
    assert list(found.skips.perplexity) == [0, *(m for m in (2, 4, 8) if m < n)]
    all_rows = [case.rows64(tuple(ids)) for ids in TEXTS.tolist()]
    for skipped, perplexity in found.skips.perplexity.items():
        nats = [
            -float(case.log_q("tuned", n - skipped, rows[n - skipped][pos])[ids[pos + 1]])
            for rows, ids in zip(all_rows, TEXTS.tolist(), strict=True)
            for pos in range(SEQ_LEN - 1)
        ]
        assert perplexity == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-4)


def test_batches_and_their_order_leave_no_trace(case: EvaluatorCase, found: GateReadings) -> None:
    other = evaluated(case, [(0,), (2, 3, 1)], 1, reverse=True)
    torch.testing.assert_close(other.text.kl_to_final_bits, found.text.kl_to_final_bits, atol=1e-5, rtol=1e-5)
    assert torch.equal(other.text.sequences, found.text.sequences)
    for one, two in zip(other.prompts, found.prompts, strict=True):
        assert (one.prompt_id, one.final_rank) == (two.prompt_id, two.final_rank)
        for lens in case.lenses:
            assert one.lenses[lens].answer_rank == two.lenses[lens].answer_rank
            assert one.lenses[lens].kl_to_final_bits == pytest.approx(two.lenses[lens].kl_to_final_bits, abs=1e-5)


def test_text_is_decoded_in_pieces_of_a_block_and_means_the_same(case: EvaluatorCase, found: GateReadings) -> None:
    sizes: list[int] = []
    norm = case.lenses["norm"]
    real = norm.decode_inputs

    def noted(h: Tensor, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        sizes.append(h.shape[1])
        return real(h, rows)

    norm.decode_inputs = noted  # type: ignore[method-assign]
    try:
        evaluator = case.evaluator(prompts(), block_bytes=2 * case.num_rows * case.lm.d_model * 4)
        read_text(evaluator, text_batch((0, 1, 2, 3)))
    finally:
        del norm.decode_inputs
    assert max(sizes) == 2
    for name, means in evaluator.means.items():
        for quantity, value in found.rows[name].items():
            torch.testing.assert_close(means.compute()[quantity], value, rtol=1e-5, atol=1e-6)


def test_what_is_read_twice_or_never_is_an_error(case: EvaluatorCase) -> None:
    evaluator = case.evaluator(prompts())
    read_text(evaluator, text_batch((0,)))
    first, *_ = batches(prompts(), 1)
    read_prompts(evaluator, first)
    with pytest.raises(AssertionError, match=r"prompts \[1, 2, 3\] were never read"):
        evaluator.compute()
    read_prompts(evaluator, first)
    with pytest.raises(ValueError, match="twice"):
        evaluator.compute()


def test_it_holds_metrics_and_nothing_to_train_or_to_save(case: EvaluatorCase) -> None:
    evaluator = case.evaluator(prompts())
    assert list(evaluator.parameters()) == []
    assert evaluator.state_dict() == {}
    assert evaluator.norm_inv_tau == pytest.approx(case.inv_tau.tolist())
