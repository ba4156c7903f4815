"""Logits taken apart, against the models' own logits and against sums made here in float64 from plain hooks."""

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from logos_pl.data.prompt_types import AnswerTokens, Prompt
from logos_pl.data.prompts import TokenizedPrompt, batches
from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import NormLens
from logos_pl.lm.branches import Branches
from logos_pl.lm.frozen import FrozenLM
from logos_pl.sweeps.attribution import DirectLogitAttribution, LogitParts, NotAttributed, logit_attribution
from logos_pl.sweeps.reader import PromptReader
from logos_pl.sweeps.recording import records_of
from logos_pl.sweeps.records import LogitAttribution
from tests.lm.families import BLOCKS, FAMILIES, every, tiny_model
from tests.lm.test_branches import DECOMPOSED

PROMPTS = (
    ((1, 5, 9, 33, 17), (40,), (41,)),
    ((1, 60), (7, 8, 9), ()),
    ((1, 12, 90, 3, 44, 21, 70, 11, 96, 2, 35), (), ()),
)
"""Token ids of prompts, of their answers and of their contrasts."""


def tokenized(number: int) -> TokenizedPrompt:
    ids, answer, contrast = PROMPTS[number]

    def answer_tokens(ids: tuple[int, ...]) -> AnswerTokens:
        return AnswerTokens("resolved", "with_space", ids, tuple(map(str, ids))) if ids else AnswerTokens("none")

    prompt = Prompt(f"p{number}", "orig", " ".join(map(str, ids)))
    return TokenizedPrompt(prompt, ids, tuple(map(str, ids)), answer_tokens(answer), answer_tokens(contrast))


def parts_of(
    lm: FrozenLM, numbers: Sequence[int], attribution: DirectLogitAttribution
) -> Sequence[LogitParts | NotAttributed]:
    """What is found of the prompts, read in one batch."""
    (batch,) = batches([tokenized(number) for number in numbers], 10_000)
    parts = PromptReader(lm, {"norm": NormLens(Head(lm.anatomy))}, attribution=attribution).read(batch).logit_parts
    assert parts is not None
    return parts


def attributed(lm: FrozenLM, numbers: Sequence[int] = (0, 1, 2)) -> list[LogitAttribution]:
    """The attributions of the prompts' logits."""
    found = []
    for number, parts in zip(numbers, parts_of(lm, numbers, DirectLogitAttribution(lm, Head(lm.anatomy))), strict=True):
        assert isinstance(parts, LogitParts)
        found.append(logit_attribution(tokenized(number), parts, str))
    return found


def nats(whole: LogitAttribution) -> dict[str, float]:
    return {part.component: part.contribution_nats for part in whole.contributions}


def own_logits(lm: FrozenLM, number: int) -> Tensor:
    """The model's logits after a prompt that is run alone; tanh undone where they are capped."""
    logits = lm.model(input_ids=torch.tensor([PROMPTS[number][0]]), use_cache=False).logits[0, -1].double()
    softcap = FAMILIES_SOFTCAP.get(lm.model_id)
    return logits if softcap is None else softcap * torch.atanh(logits / softcap)


FAMILIES_SOFTCAP = {name: family.softcap for name, family in FAMILIES.items()}


@pytest.mark.parametrize("name", every(DECOMPOSED))
def test_in_every_family_the_contributions_add_up_to_the_models_own_logit(name: str) -> None:
    lm = FrozenLM.from_model(tiny_model(name), model_id=name)
    for number, whole in enumerate(attributed(lm)):
        logits, (*parts, total) = own_logits(lm, number), whole.contributions
        token = PROMPTS[number][1][0] if PROMPTS[number][1] else int(logits.argmax())
        size = sum(abs(part.contribution_nats) for part in parts)
        assert {part.token_id for part in whole.contributions} == {token}
        assert total.component == total.kind == "total"
        assert total.contribution_nats == pytest.approx(math.fsum(p.contribution_nats for p in parts), abs=1e-10)
        # Against the model's logit in fp32, whose soft-cap, undone, magnifies its rounding.
        tolerance = 1e-5 if FAMILIES_SOFTCAP[name] is None else 1e-4
        assert total.contribution_nats == pytest.approx(float(logits[token]), abs=tolerance * size)
        assert whole.model_logit_nats == pytest.approx(float(logits[token]), abs=tolerance * size)
        assert abs(nats(whole)["rounding"]) < 1e-5 * size
        assert len(parts) == 2 * BLOCKS + 2 + sum(part.kind == "bias" for part in parts)
        if number == 0:
            margin = float(logits[40] - logits[41])
            assert total.margin_contribution_nats == pytest.approx(margin, abs=tolerance * size)
            assert whole.model_margin_nats == pytest.approx(margin, abs=tolerance * size)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "gptj", "phi", "falcon_old", "falcon_sequential", "stablelm"])
def test_in_float64_they_add_up_to_the_last_digits_where_the_model_computes_its_norms_in_float64(name: str) -> None:
    lm = FrozenLM.from_model(tiny_model(name).double(), model_id=name)
    for number in range(len(PROMPTS)):
        (whole,) = attributed(lm, [number])  # alone: GPT-J multiplies queries and keys in fp32
        total = whole.contributions[-1]
        assert total.contribution_nats == pytest.approx(float(own_logits(lm, number)[total.token_id]), abs=1e-9, rel=0)
        assert abs(nats(whole)["rounding"]) < 1e-12


# By family: attention and MLP in a block, and their norms, if the block has them behind its branches.
BY_HAND = {
    "llama": ("model.layers", "self_attn", "mlp"),
    "gemma2": ("model.layers", "post_attention_layernorm", "post_feedforward_layernorm"),
    "gpt2": ("transformer.h", "attn", "mlp"),
    "gpt_neox": ("gpt_neox.layers", "attention", "mlp"),
    "granite": ("model.layers", "self_attn", "mlp"),
    "gptj": ("transformer.h", "attn", "mlp"),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_every_contribution_is_that_of_a_brute_force_in_float64(name: str) -> None:
    """Plain hooks on one prompt, the head's weights by their names, one component at a time."""
    family, (blocks_at, *branches) = FAMILIES[name], BY_HAND[name]
    lm = FrozenLM.from_model(tiny_model(name), model_id=name)
    model: Any = copy.deepcopy(lm.model).double()
    seen: dict[str, Tensor] = {}

    def keep(key: str) -> Any:
        return lambda m, args, out: seen.__setitem__(key, (out[0] if isinstance(out, tuple) else out).squeeze(0)[-1])

    for k, block in enumerate(model.get_submodule(blocks_at), start=1):
        for prefix, path in zip(("attn", "mlp"), branches, strict=True):
            block.get_submodule(path).register_forward_hook(keep(f"{prefix}_{k}"))
    first = model.get_submodule(blocks_at)[0]
    first.register_forward_pre_hook(lambda m, args: seen.__setitem__("embedding", args[0][0, -1]))
    norm = model.get_submodule(family.final_norm)
    norm.register_forward_pre_hook(lambda m, args: seen.__setitem__("last", args[0][0, -1]))
    with torch.no_grad():
        model(input_ids=torch.tensor([PROMPTS[0][0]]), use_cache=False)

    def centre(h: Tensor) -> Tensor:
        return h - h.mean() if family.norm == "layer" else h

    last = centre(seen.pop("last"))
    eps = getattr(model.config, "rms_norm_eps", None) or getattr(model.config, "layer_norm_eps", 1e-5)
    gamma = norm.weight + (1.0 if family.one_plus_w else 0.0)
    multiplier = 0.5 if name == "granite" else 1.0

    def contribution(component: str, h: Tensor, token: int) -> float:
        h = h if component == "embedding" else h * multiplier
        x = centre(h) / ((last * last).mean() + eps).sqrt() * gamma
        return float((x * model.lm_head.weight[token]).sum() * family.multiplier / family.divisor)

    whole = attributed(lm)[0]
    got = {part.component: part for part in whole.contributions}
    for component, h in seen.items():
        answer, contrast = (contribution(component, h, token) for token in (40, 41))
        assert got[component].contribution_nats == pytest.approx(answer, abs=1e-5)
        assert got[component].margin_contribution_nats == pytest.approx(answer - contrast, abs=1e-5)
    assert len(seen) == 2 * BLOCKS + 1
    if family.norm == "layer":
        assert got["norm_bias"].contribution_nats == pytest.approx(
            float(norm.bias @ model.lm_head.weight[40]), abs=1e-6
        )
    if family.head_bias:
        assert got["head_bias"].contribution_nats == pytest.approx(float(model.lm_head.bias[40]), abs=1e-6)


LAST_PRODUCTS = {
    "llama": ("model.layers.2.mlp.down_proj", "mlp_3"),
    "gemma2": ("model.layers.2.mlp.down_proj", "mlp_3"),
    "gpt2": ("transformer.h.2.mlp.c_proj", "mlp_3"),
    "gptj": ("transformer.h.2.attn.out_proj", "attn_3"),  # in parallel with the MLP, which does not see it
    "cohere": ("model.layers.2.self_attn.o_proj", "attn_3"),
    "mixtral": ("model.layers.2.mlp.experts", "mlp_3"),
}


@pytest.mark.parametrize("name", LAST_PRODUCTS)
def test_a_branch_without_weights_contributes_nothing_and_all_others_what_they_did(name: str) -> None:
    """In the last block, which no other branch reads; by the frozen scale, which the last row decides, divided out."""
    path, component = LAST_PRODUCTS[name]
    lm = FrozenLM.from_model(tiny_model(name))
    before = attributed(lm)
    for parameter in lm.model.get_submodule(path).parameters():
        parameter.zero_()
    after = attributed(lm)
    for one, other in zip(before, after, strict=True):
        if len({part.token_id for part in (*one.contributions, *other.contributions)}) > 1:
            continue  # without an answer, the model's own first token, which may be another one now
        assert abs(nats(one)[component]) > 1e-3
        assert nats(other)[component] == 0.0
        for a, b in zip(one.contributions, other.contributions, strict=True):
            if a.kind in ("embedding", "attention", "mlp") and a.component != component:
                scaled = a.contribution_nats / one.norm_scale * other.norm_scale
                assert b.contribution_nats == pytest.approx(scaled, rel=1e-9, abs=1e-9)
            if a.kind == "bias":
                assert a.contribution_nats == b.contribution_nats


@pytest.mark.parametrize("name", ["gemma2", "gemma3_text", "olmo2"])
def test_a_branch_taken_before_its_own_norm_does_not_add_up_and_is_left_out_with_the_reason(name: str) -> None:
    lm = FrozenLM.from_model(tiny_model(name))
    attribution = DirectLogitAttribution(lm, Head(lm.anatomy))
    blocks: Any = lm.anatomy.blocks
    attribution.branches[1] = Branches(blocks[1].self_attn, attribution.branches[1].mlp, 1.0)
    for number, parts in enumerate(parts_of(lm, (0, 1, 2), attribution)):
        assert isinstance(parts, NotAttributed)
        assert parts.reason.startswith(f"After the prompt p{number} (orig), embedding, attention and MLP of ")
        assert parts.reason.endswith("more than rounding explains: its logits are not attributed to components.")


def test_a_prompt_that_does_not_add_up_leaves_all_others_as_they_are() -> None:
    lm = FrozenLM.from_model(tiny_model("llama"))
    attribution = DirectLogitAttribution(lm, Head(lm.anatomy))
    reader = PromptReader(lm, {"norm": NormLens(Head(lm.anatomy))}, attribution=attribution)
    (batch,) = batches([tokenized(number) for number in range(3)], 10_000)
    whole = attributed(lm)
    real = attribution.parts

    def spoiled(prompts: Any, branches: Tensor, embedding: Tensor, last_row: Tensor) -> Any:
        branches[1, 0, 1] += 0.01  # of the second prompt
        return real(prompts, branches, embedding, last_row)

    attribution.parts = spoiled  # type: ignore[method-assign]
    first, second, third = records_of(reader.read(batch), str, frozenset(), False)
    assert (first.attribution, third.attribution) == (whole[0], whole[2])
    assert (first.not_attributed, third.not_attributed) == (None, None)
    assert second.attribution is None
    assert second.not_attributed is not None
    assert "After the prompt p1 (orig)" in second.not_attributed
    assert len(second.next_token["norm"]) == BLOCKS + 1, "everything else is read"


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_what_is_kept_of_branches_has_the_streams_number_format(name: str) -> None:
    lm = FrozenLM.from_model(tiny_model("llama", torch.bfloat16))
    lm.anatomy = dataclasses.replace(lm.anatomy, stream_dtype=torch.float32 if name == "mamba" else torch.bfloat16)
    kept, _ = DirectLogitAttribution(lm, Head(lm.anatomy)).watch(torch.tensor([0]))
    assert kept.dtype == lm.stream_dtype


@pytest.mark.parametrize("name", ["llama", "opt_project", "gpt2", "falcon_sequential", "qwen3_moe"])
def test_padding_and_batching_change_nothing(name: str) -> None:
    lm = FrozenLM.from_model(tiny_model(name))
    for number, together in enumerate(attributed(lm)):
        (alone,) = attributed(lm, [number])
        for a, b in zip(together.contributions, alone.contributions, strict=True):
            assert a[:7] == b[:7]
            assert a.contribution_nats == pytest.approx(b.contribution_nats, abs=2e-5)


def test_in_half_precision_rounding_is_a_component_and_the_sum_still_the_logit_of_the_last_row() -> None:
    name = "llama"
    lm = FrozenLM.from_model(tiny_model(name, torch.bfloat16), model_id=name)
    for number, whole in enumerate(attributed(lm)):
        total = whole.contributions[-1]
        assert 1e-4 < abs(nats(whole)["rounding"]) < 0.5
        assert total.contribution_nats == pytest.approx(whole.model_logit_nats, abs=0.1)
        assert whole.model_logit_nats == pytest.approx(float(own_logits(lm, number)[total.token_id]), abs=1e-6)


def test_a_logit_is_taken_apart_before_the_soft_cap_and_the_capped_one_is_given_beside_it() -> None:
    lm = FrozenLM.from_model(tiny_model("gemma2"))
    for number, whole in enumerate(attributed(lm)):
        total = whole.contributions[-1]
        capped = lm.model(input_ids=torch.tensor([PROMPTS[number][0]]), use_cache=False).logits[0, -1, total.token_id]
        assert whole.capped_logit_nats == pytest.approx(float(capped), abs=1e-5)
        assert 3.0 * math.tanh(total.contribution_nats / 3.0) == pytest.approx(float(capped), abs=1e-5)
    assert attributed(FrozenLM.from_model(tiny_model("llama")))[0].capped_logit_nats is None


def test_records_name_component_kind_block_token_and_contrast_in_order() -> None:
    answered, without_contrast, without_answer = attributed(FrozenLM.from_model(tiny_model("phi")))
    layers = [None, *(k for k in (1, 2, 3) for _ in range(2)), *[None] * 4]
    names = ["embedding", "attn_1", "mlp_1", "attn_2", "mlp_2", "attn_3", "mlp_3", "rounding", "norm_bias", "head_bias"]
    kinds = ["embedding", *["attention", "mlp"] * 3, "rounding", "bias", "bias", "total"]
    for whole in (answered, without_contrast, without_answer):
        assert [part.component for part in whole.contributions] == [*names, "total"]
        assert [part.kind for part in whole.contributions] == kinds
        assert [part.layer for part in whole.contributions] == layers
    for part in answered.contributions:
        assert part[:2] == ("p0", "orig")
        assert (part.token_id, part.token, part.contrast_id, part.contrast) == (40, "40", 41, "41")
        assert part.margin_contribution_nats is not None
    for part in (*without_contrast.contributions, *without_answer.contributions):
        assert (part.contrast_id, part.contrast, part.margin_contribution_nats) == (None, None, None)


def test_a_model_that_cannot_be_taken_apart_is_refused_before_anything_is_read() -> None:
    lm = FrozenLM.from_model(tiny_model("opt_post_norm"))
    with pytest.raises(InputError, match="does not support OPTForCausalLM"):
        DirectLogitAttribution(lm, Head(lm.anatomy))


def test_nothing_is_taken_apart_and_nothing_hooked_unless_asked_for() -> None:
    lm = FrozenLM.from_model(tiny_model("llama"))
    (batch,) = batches([tokenized(0)], 100)
    assert PromptReader(lm, {"norm": NormLens(Head(lm.anatomy))}).read(batch).logit_parts is None
    assert not any(module._forward_hooks for module in lm.model.modules() if isinstance(module, nn.Module))
