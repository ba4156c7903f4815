"""The sweep against a brute force in float64: plain hooks, one prompt, one row and one position at a time."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.data.prompts import PromptBatch, TokenizedPrompt, batches
from logos_pl.functional.pair_readings import PairReadings
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lenses.translator import Translators
from logos_pl.lenses.tuned import TunedLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.sweeps.reader import BatchReading, PromptReader
from tests.lm.families import FAMILIES, Family, tiny_model
from tests.lm.oracle import head_logits

BLOCKS_OF = {"llama": "model.layers", "gemma2": "model.layers", "gpt2": "transformer.h"}
PROMPTS = (
    ((1, 5, 9, 33, 17), (40,), (41,)),
    ((1, 60), (7, 8, 9), ()),
    ((1, 12, 90, 3, 44, 21, 70, 11, 96, 2, 35), (), ()),
    ((50,), (50, 51), (3,)),
)
"""Token ids of prompts, of their answers and of their contrasts."""


def tokenized(number: int) -> TokenizedPrompt:
    ids, answer, contrast = PROMPTS[number]

    def answer_tokens(ids: tuple[int, ...]) -> AnswerTokens:
        return AnswerTokens("resolved", "with_space", ids, tuple(map(str, ids))) if ids else AnswerTokens("none")

    prompt = Prompt(f"p{number}", "orig", " ".join(map(str, ids)))
    return TokenizedPrompt(prompt, ids, tuple(map(str, ids)), answer_tokens(answer), answer_tokens(contrast))


def together() -> PromptBatch:
    (batch,) = batches([tokenized(number) for number in range(len(PROMPTS))], 10_000)
    return batch


class Subject:
    """A tiny model of a family, a lens on it that was not trained but moved, and all of it again in float64."""

    def __init__(self, name: str) -> None:
        self.name, self.family = name, FAMILIES[name]
        self.lm = FrozenLM.from_model(tiny_model(name))
        head = Head(self.lm.anatomy)
        self.translators = Translators(self.lm.num_blocks - 1, self.lm.d_model, 4, seed=0)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in self.translators.parameters():
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
        self.lenses: dict[str, Lens] = {"norm": NormLens(head), "tuned": TunedLens(self.translators, head)}
        self.model64 = copy.deepcopy(self.lm.model).double()

    def read(self, batch: PromptBatch, **options: Any) -> BatchReading:
        return PromptReader(self.lm, self.lenses, **options).read(batch)

    def rows64(self, ids: tuple[int, ...]) -> list[Tensor]:
        """The residual stream [pos, d_model] of one prompt alone, row by row, by plain hooks."""
        rows: list[Tensor] = []
        blocks = self.model64.get_submodule(BLOCKS_OF[self.name])
        assert isinstance(blocks, torch.nn.ModuleList)
        handles = [blocks[0].register_forward_pre_hook(lambda m, args: rows.append(args[0][0]))]
        handles += [
            block.register_forward_hook(lambda m, a, out: rows.append((out[0] if isinstance(out, tuple) else out)[0]))
            for block in blocks
        ]
        with torch.no_grad():
            self.model64(torch.tensor([ids]), use_cache=False)
        for handle in handles:
            handle.remove()
        return rows

    def logits64(self, lens: str, row: int, h: Tensor) -> Tensor:
        """One row's logits at one position."""
        inner = 0 < row < self.lm.num_blocks
        if lens == "norm" or not inner:
            return head_logits(self.model64, self.family, h[None])[0].detach()
        t = {name: value.double()[row - 1] for name, value in self.translators.named_parameters()}
        x = normalised(self.model64, self.family, h)
        x = x + t["V"] @ (t["U"].T @ x) + t["c"]
        tau = torch.log1p(torch.exp(t["log_tau"])) + 1e-3
        return (unnormed_logits(self.model64, self.family, x) / tau).detach()


def answered(number: int, answer: tuple[int, ...]) -> TokenizedPrompt:
    """A prompt with another answer than its own."""
    answer_tokens = (
        AnswerTokens("resolved", "with_space", answer, tuple(map(str, answer))) if answer else AnswerTokens("none")
    )
    return tokenized(number)._replace(answer_tokens=answer_tokens)


@pytest.mark.parametrize("name", BLOCKS_OF)
def test_the_answers_own_tokens_change_nothing_that_is_read_of_the_prompt(name: str) -> None:
    """They are read behind the prompt, for the probability of the whole answer; a causal model cannot see them."""
    subject = Subject(name)
    reader = PromptReader(subject.lm, subject.lenses)
    for number in range(len(PROMPTS)):
        plain, *others = (
            reader.read(batches([answered(number, answer)], 10_000)[0], keep_residuals=True)
            for answer in ((), (40,), (40, 41), (7, 8, 9, 10, 11, 12))
        )
        length = len(PROMPTS[number][0])
        assert plain.residuals is not None
        for other in others:
            assert other.residuals is not None
            torch.testing.assert_close(other.residuals[:, :length], plain.residuals, rtol=1e-5, atol=1e-5)
            for lens, readings in plain.lenses.items():
                for field in ("top_p", "entropy_bits", "kl_to_final_bits", "kl_from_final_bits", "cos_to_final"):
                    got = getattr(other.lenses[lens], field)[:, :length]
                    torch.testing.assert_close(got, getattr(readings, field), rtol=1e-5, atol=1e-5)
                assert torch.equal(other.lenses[lens].top_ids[..., :length, 0], readings.top_ids[..., 0])


def normalised(model: Any, family: Family, h: Tensor) -> Tensor:
    norm = model.get_submodule(family.final_norm)
    eps = getattr(model.config, "rms_norm_eps", None) or model.config.layer_norm_epsilon
    if family.norm == "layer":
        h = h - h.mean()
    out = h / ((h * h).mean() + eps).sqrt() * (norm.weight + (1.0 if family.one_plus_w else 0.0))
    return out if getattr(norm, "bias", None) is None else out + norm.bias


def unnormed_logits(model: Any, family: Family, x: Tensor) -> Tensor:
    z = model.lm_head.weight @ x
    return z if family.softcap is None else family.softcap * torch.tanh(z / family.softcap)


@pytest.fixture(scope="module", params=["llama", "gemma2", "gpt2"])
def subject(request: pytest.FixtureRequest) -> Subject:
    return Subject(request.param)


def kl_bits(p: Tensor, q: Tensor) -> float:
    return float(sum(a * (math.log2(a) - math.log2(b)) for a, b in zip(p.tolist(), q.tolist(), strict=True)))


@pytest.mark.parametrize("lens", ["norm", "tuned"])
def test_every_figure_is_that_of_a_brute_force_in_float64(subject: Subject, lens: str) -> None:
    batch = together()
    reading = subject.read(batch, block_bytes=5 * 97 * 4)
    got = reading.lenses[lens]
    for prompt, start in zip(batch.prompts, reading.starts, strict=True):
        ids, answer = prompt.input_ids, prompt.answer_tokens.ids
        rows = subject.rows64(ids)
        for pos in range(len(ids)):
            final = subject.logits64("norm", subject.lm.num_blocks, rows[-1][pos])
            p_final = torch.softmax(final, 0)
            at, step = start + pos, pos - len(prompt.ids) + 1
            target = answer[step] if answer and step >= 0 else None
            contrast = prompt.contrast.first_id if step == 0 else None
            assert float(reading.teacher_entropy_bits[at]) == pytest.approx(entropy(p_final), abs=1e-4)
            for row, h in enumerate(rows):
                z = subject.logits64(lens, row, h[pos])
                p = torch.softmax(z, 0)
                order = sorted(range(97), key=lambda token, z=z: -float(z[token]))[:10]
                assert got.top_ids[row, at].tolist() == order
                assert got.top_p[row, at].tolist() == pytest.approx(p[order].tolist(), abs=1e-5)
                assert float(got.rest_mass[row, at]) == pytest.approx(1 - float(p[order].sum()), abs=1e-5)
                assert float(got.entropy_bits[row, at]) == pytest.approx(entropy(p), abs=1e-4)
                assert float(got.kl_to_final_bits[row, at]) == pytest.approx(kl_bits(p, p_final), abs=1e-4)
                assert float(got.kl_from_final_bits[row, at]) == pytest.approx(kl_bits(p_final, p), abs=1e-4)
                a, b = z - z.mean(), final - final.mean()
                assert float(got.cos_to_final[row, at]) == pytest.approx(float(a @ b / (a.norm() * b.norm())), abs=1e-5)
                if target is None:
                    assert int(got.target_rank[row, at]) == 0
                    assert got.target_p[row, at].isnan()
                else:
                    assert int(got.target_rank[row, at]) == 1 + sum(float(other) > float(z[target]) for other in z)
                    assert float(got.target_p[row, at]) == pytest.approx(float(p[target]), abs=1e-6)
                    assert float(got.target_nll_bits[row, at]) == pytest.approx(-math.log2(p[target]), abs=1e-4)
                    others = torch.cat([z[:target], z[target + 1 :]])
                    assert float(got.target_logit_gap[row, at]) == pytest.approx(
                        float(z[target] - others.max()), abs=1e-4
                    )
                if contrast is None:
                    assert got.contrast_p[row, at].isnan()
                else:
                    assert float(got.contrast_p[row, at]) == pytest.approx(float(p[contrast]), abs=1e-6)
                assert bool(got.finite[row, at])


@pytest.mark.parametrize("lens", ["norm", "tuned"])
def test_answer_contrast_and_the_models_own_first_tokens_are_followed_everywhere(subject: Subject, lens: str) -> None:
    batch = together()
    reading = subject.read(batch, block_bytes=5 * 97 * 4)
    got = reading.lenses[lens]
    for number, (prompt, start) in enumerate(zip(batch.prompts, reading.starts, strict=True)):
        rows = subject.rows64(prompt.input_ids)
        final = subject.logits64("norm", subject.lm.num_blocks, subject.rows64(prompt.ids)[-1][-1])
        asked = [*prompt.answer_tokens.ids[:1], *prompt.contrast.ids[:1]]
        own = sorted(range(97), key=lambda token, final=final: -float(final[token]))
        ids = reading.followed[number]
        assert list(ids) == list(dict.fromkeys([*asked, *own]))[:4]
        for row, h in enumerate(rows):
            for pos in range(len(prompt.ids)):
                z = subject.logits64(lens, row, h[pos])
                p = torch.softmax(z, 0)
                assert got.followed_rank[row, start + pos].tolist() == [1 + int((z > z[id_]).sum()) for id_ in ids]
                assert got.followed_p[row, start + pos].tolist() == pytest.approx(p[list(ids)].tolist(), abs=1e-6)


def entropy(p: Tensor) -> float:
    return float(-(p * p.log2()).sum())


def test_the_checks_at_the_last_token_are_those_of_a_brute_force(subject: Subject) -> None:
    batch = together()
    reading = subject.read(batch)
    for number, prompt in enumerate(batch.prompts):
        rows = subject.rows64(prompt.ids)
        for row, h in enumerate(rows):
            with_norm = subject.logits64("norm", row, h[-1])
            without = unnormed_logits(subject.model64, subject.family, h[-1]).detach()
            check_pair(reading.norm_to_raw, row, number, with_norm, without, prompt.answer_tokens.first_id)
        assert float(reading.last_row.kl_to_final_bits[number]) == pytest.approx(0, abs=1e-6)
        assert float(reading.last_row.kl_after_temp_bits[number]) == pytest.approx(0, abs=1e-6)
        assert float(reading.last_row.temp_est[number]) == pytest.approx(1, abs=1e-2)
        assert bool(reading.last_row.top1_agree[number])


def check_pair(got: PairReadings, row: int, number: int, a: Tensor, b: Tensor, target: int | None) -> None:
    assert float(got.kl_bits[row, number]) == pytest.approx(kl_bits(a.softmax(0), b.softmax(0)), abs=1e-4)
    assert bool(got.top1_agree[row, number]) == (int(a.argmax()) == int(b.argmax()))
    top = [set(z.argsort(descending=True)[:10].tolist()) for z in (a, b)]
    assert float(got.top10_jaccard[row, number]) == pytest.approx(len(top[0] & top[1]) / len(top[0] | top[1]))
    ranks = [0 if target is None else 1 + int((z > z[target]).sum()) for z in (a, b)]
    assert [int(got.target_rank_a[row, number]), int(got.target_rank_b[row, number])] == ranks


def test_decoding_with_the_next_norm_is_set_against_the_final_one(subject: Subject) -> None:
    batch = together()
    reading = subject.read(batch)
    assert reading.final_to_next is not None
    blocks = subject.model64.get_submodule(BLOCKS_OF[subject.name])
    for number, prompt in enumerate(batch.prompts):
        rows = subject.rows64(prompt.ids)
        for row, h in enumerate(rows):
            final = subject.logits64("norm", row, h[-1])
            following = final
            if row < subject.lm.num_blocks:
                block: Any = blocks[row]
                norm = block.ln_1 if subject.name == "gpt2" else block.input_layernorm
                following = unnormed_logits(subject.model64, subject.family, by_hand(norm, subject, h[-1])).detach()
            check_pair(reading.final_to_next, row, number, final, following, prompt.answer_tokens.first_id)


def by_hand(norm: Any, subject: Subject, h: Tensor) -> Tensor:
    eps = getattr(subject.lm.model.config, "rms_norm_eps", None) or subject.lm.model.config.layer_norm_epsilon
    if subject.family.norm == "layer":
        h = h - h.mean()
    out = h / ((h * h).mean() + eps).sqrt() * (norm.weight + (1.0 if subject.family.one_plus_w else 0.0))
    return out if getattr(norm, "bias", None) is None else out + norm.bias


def test_the_batch_a_prompt_stands_in_does_not_matter(subject: Subject) -> None:
    batch = together()
    reading = subject.read(batch)
    for number, start in enumerate(reading.starts):
        (alone,) = batches([tokenized(number)], 10_000)
        single = subject.read(alone)
        for lens, all_rows in reading.lenses.items():
            for name, one, many in zip(all_rows._fields, single.lenses[lens], all_rows, strict=True):
                part = many[:, start : start + one.shape[1]]
                if one.is_floating_point():
                    torch.testing.assert_close(part, one, atol=2e-5, rtol=1e-5, equal_nan=True, msg=name)
                else:
                    assert torch.equal(part, one), name


def test_few_residuals_are_widened_at_a_time_and_nothing_changes(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = subject.read(together())
    monkeypatch.setattr("logos_pl.sweeps.reader.DECODED_BYTES", 3 * (subject.lm.num_blocks + 1) * 32 * 4)
    pieces = subject.read(together())
    for lens, rows in whole.lenses.items():
        for name, one, other in zip(rows._fields, rows, pieces.lenses[lens], strict=True):
            torch.testing.assert_close(one.double(), other.double(), atol=2e-5, rtol=1e-5, equal_nan=True, msg=name)


def test_residuals_are_kept_on_demand_and_only_those_of_tokens(subject: Subject) -> None:
    batch = together()
    kept = PromptReader(subject.lm, subject.lenses).read(batch, keep_residuals=True)
    assert subject.read(batch).residuals is None
    assert kept.residuals is not None
    for prompt, start in zip(batch.prompts, kept.starts, strict=True):
        wanted = torch.stack(subject.rows64(prompt.input_ids))
        torch.testing.assert_close(
            kept.residuals[:, start : start + wanted.shape[1]].double(), wanted, atol=1e-4, rtol=1e-4
        )
