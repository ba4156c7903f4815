"""The fp32 head: exact to 1e-4 bits for every family, and not without any of its parts."""

import dataclasses
import hashlib
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from logos_pl.errors import InputError
from logos_pl.lenses import head as head_module
from logos_pl.lenses.head import Head, RowNorms
from logos_pl.lm.anatomy import find_parts
from logos_pl.lm.dtypes import Fp32Unembed
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.norms import NormWeights, apply_norm, norm_weights
from logos_pl.lm.residuals import residuals
from tests.lenses.toy_head import toy_head
from tests.lm.families import BLOCKS, D_MODEL, FAMILIES, NAMES, VOCAB, every, tiny_model
from tests.lm.oracle import head_logits, kl_bits, last_row

IDS = torch.randint(3, VOCAB, (3, 11), generator=torch.Generator().manual_seed(9))


def decode(head: Head, h: torch.Tensor) -> torch.Tensor:
    flat = h.reshape(1, -1, D_MODEL)
    return head.logits(head.normalise(flat, [BLOCKS])).reshape(*h.shape[:-1], -1)


@pytest.mark.parametrize("name", every(NAMES))
def test_row_n_in_fp32_is_within_a_ten_thousandth_bit_of_the_model_and_of_float64(name: str) -> None:
    family, model = FAMILIES[name], tiny_model(name, seed=3)
    h = last_row(model, family, IDS)
    logits = decode(Head(find_parts(model)), h)
    assert logits.dtype == torch.float32
    assert kl_bits(model(input_ids=IDS, use_cache=False).logits, logits) < 1e-4
    oracle = head_logits(model, family, h)
    assert kl_bits(oracle, logits) < 1e-8
    assert torch.allclose(logits.double(), oracle, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", every(NAMES))
def test_a_half_precision_model_is_decoded_as_its_weights_say_in_float64(name: str) -> None:
    family, model = FAMILIES[name], tiny_model(name, torch.bfloat16, seed=3)
    h = last_row(model, family, IDS)
    assert kl_bits(head_logits(model, family, h), decode(Head(find_parts(model)), h)) < 1e-4


def without_bias(layer: nn.Linear) -> nn.Linear:
    bare = nn.Linear(layer.in_features, layer.out_features, bias=False)
    bare.weight = layer.weight
    return bare


MUTATIONS = {
    "the soft-cap": ("gemma2", lambda a: {"softcap": None}),
    "the multiplier": ("cohere", lambda a: {"logit_multiplier": 1.0}),
    "the divisor": ("granite", lambda a: {"logit_divisor": 1.0}),
    "the bias": ("phi", lambda a: {"lm_head": without_bias(a.lm_head)}),
    "the final norm": ("qwen3", lambda a: {"final_norm": None}),
}


@pytest.mark.parametrize("part", MUTATIONS)
def test_a_head_without_a_part_is_not_the_models(part: str) -> None:
    name, change = MUTATIONS[part]
    model = tiny_model(name)
    anatomy = find_parts(model)
    wrong = Head(dataclasses.replace(anatomy, **change(anatomy)))
    wanted = model(input_ids=IDS, use_cache=False).logits
    assert kl_bits(wanted, decode(wrong, last_row(model, FAMILIES[name], IDS))) > 1e-2


def test_a_head_without_the_projection_does_not_even_fit() -> None:
    model = tiny_model("opt_project")
    wrong = Head(find_parts(model))
    wrong.projection = None
    with pytest.raises(RuntimeError):
        decode(wrong, last_row(model, FAMILIES["opt_project"], IDS))


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "cohere"])
def test_epsilon_counts_where_the_residual_is_small(name: str) -> None:
    family, model = FAMILIES[name], tiny_model(name)
    h = last_row(model, family, IDS) * 1e-4
    head = Head(find_parts(model))
    wanted = head_logits(model, family, h)
    assert kl_bits(wanted, decode(head, h)) < 1e-8
    head._norms.eps = torch.zeros_like(head._norms.eps)
    assert kl_bits(wanted, decode(head, h)) > 1e-3


def test_next_decodes_each_row_with_its_own_norm_and_row_n_with_the_final_one() -> None:
    lm = FrozenLM.from_model(tiny_model("gpt2"))
    blocks, final = lm.model.transformer.h, lm.model.transformer.ln_f
    h = residuals(lm, IDS, None, range(BLOCKS + 1)).flatten(1, 2)
    rows = [3, 0, 2]
    x = Head(lm.anatomy, decoding_norm="next").normalise(h[rows], rows)
    for slot, norm in enumerate([final, blocks[0].ln_1, blocks[2].ln_1]):
        assert torch.allclose(x[slot], norm(h[rows[slot]]), rtol=1e-5, atol=1e-6)


def test_final_decodes_every_row_with_the_final_norm() -> None:
    lm = FrozenLM.from_model(tiny_model("gemma2"))
    h = residuals(lm, IDS, None, [0, 2]).flatten(1, 2)
    assert torch.allclose(Head(lm.anatomy).normalise(h, [0, 2]), lm.anatomy.final_norm(h), rtol=1e-5, atol=1e-6)


def test_row_norms_of_different_kinds_stand_side_by_side() -> None:
    torch.manual_seed(0)
    g, b = torch.randn(8), torch.randn(8)
    norms = [
        NormWeights("rms", g, None, 1e-5),
        NormWeights("layer", g + 1, b, 1e-3),
        NormWeights("identity", torch.ones(8), None, 0.0),
    ]
    h = torch.randn(4, 6, 8)
    rows = torch.tensor([2, 1, 0, 1])
    x = RowNorms(norms)(h, rows)
    for slot, row in enumerate(rows.tolist()):
        assert torch.allclose(x[slot], apply_norm(h[slot], norms[row]), rtol=1e-6, atol=1e-6)
    assert torch.equal(x[0], h[0])


def test_next_is_refused_where_no_norm_reads_the_rows() -> None:
    with pytest.raises(InputError, match="`next` is not defined for Olmo2ForCausalLM: none of its norms reads"):
        Head(find_parts(tiny_model("olmo2")), decoding_norm="next")


def test_normalise_widens_half_precision_before_it_squares() -> None:
    """A residual whose square overflows fp16 must still be normalised."""
    head = Head(find_parts(tiny_model("llama", torch.float16)))
    h = torch.full((1, 2, D_MODEL), 2e4, dtype=torch.float16)
    x = head.normalise(h, [1])
    assert x.dtype == torch.float32
    assert torch.allclose(x[0, 0], head.final.gamma, rtol=1e-4)


def test_an_fp32_head_shares_the_models_memory_and_never_trains() -> None:
    model = tiny_model("llama")
    head = Head(find_parts(model))
    assert head.unembedding.weight.data_ptr() == model.lm_head.weight.data_ptr()
    assert not head.unembedding.weight.requires_grad


@pytest.mark.parametrize(("fp32", "wanted"), [("auto", torch.float32), (True, torch.float32), (False, torch.bfloat16)])
def test_the_unembedding_is_held_as_asked_and_its_logits_are_fp32(fp32: Fp32Unembed, wanted: torch.dtype) -> None:
    model = tiny_model("gemma2", torch.bfloat16)
    head, exact = Head(find_parts(model), fp32_unembed=fp32), Head(find_parts(model))
    shares = head.unembedding.weight.data_ptr() == model.lm_head.weight.data_ptr()
    assert (head.unembedding.weight.dtype, shares) == (wanted, wanted == torch.bfloat16)
    x = torch.randn(4, D_MODEL, generator=torch.Generator().manual_seed(0))
    logits = head.logits(x)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, exact.logits(x), rtol=2e-2, atol=2e-2)
    assert torch.equal(logits, exact.logits(x)) == (wanted == torch.float32)


def test_a_model_in_fp32_has_its_unembedding_in_fp32_whatever_is_asked() -> None:
    model = tiny_model("llama")
    assert Head(find_parts(model), fp32_unembed=False).unembedding.weight.data_ptr() == model.lm_head.weight.data_ptr()


def test_the_hash_does_not_depend_on_the_dtype_loaded_when_the_cast_is_lossless() -> None:
    half = tiny_model("opt_project", torch.bfloat16)
    digest = Head(find_parts(half)).sha256()
    assert Head(find_parts(half.float())).sha256() == digest


def test_the_hash_does_not_depend_on_the_decoding_norm_or_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    anatomy = find_parts(tiny_model("phi"))
    digest = Head(anatomy).sha256()
    assert Head(anatomy, decoding_norm="next").sha256() == digest
    monkeypatch.setattr(head_module, "HASH_CHUNK", 7)
    assert Head(anatomy).sha256() == digest


@pytest.mark.parametrize("path", ["lm_head.weight", "lm_head.bias", "model.final_layernorm.weight"])
def test_one_changed_number_anywhere_in_the_head_changes_the_hash(path: str) -> None:
    model = tiny_model("phi")
    before = Head(find_parts(model)).sha256()
    tensor = model.get_parameter(path).data.view(-1)
    tensor[-1] = torch.nextafter(tensor[-1], torch.tensor(10.0))
    assert Head(find_parts(model)).sha256() != before


def test_a_changed_constant_changes_the_hash() -> None:
    anatomy = find_parts(tiny_model("gemma2"))
    digests = {
        Head(dataclasses.replace(anatomy, **change)).sha256()
        for change in ({}, {"softcap": 3.5}, {"softcap": None}, {"logit_multiplier": 2.0}, {"logit_divisor": 2.0})
    }
    assert len(digests) == 5


def test_the_hash_of_an_unembedding_is_over_its_fp32_bytes() -> None:
    pieces = b"".join(head_module._fp32_bytes(torch.arange(5, dtype=torch.bfloat16)))
    assert hashlib.sha256(pieces).digest() == hashlib.sha256(torch.arange(5.0).numpy().tobytes()).digest()


REFERENCES = (
    "stories260K-lily_park",
    "stories260K-once_upon",
    "tiny-llama-france",
    "tiny-llama-germany_simply",
    "tiny-llama-opposite_hot",
)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("reference", REFERENCES)
def test_next_token_rows_of_trained_models_match_the_reference(shared: Path, reference: str, dtype: str) -> None:
    wanted = json.loads((shared / "reference" / f"{reference}.json").read_text())
    lm = FrozenLM.load(str(shared / wanted["model"]), dtype=dtype)
    ids = lm.tokenizer(wanted["prompt"], return_tensors="pt").input_ids
    h = residuals(lm, ids, torch.tensor([[ids.shape[1] - 1]]), range(lm.num_blocks + 1))[:, :, 0]
    head = Head(lm.anatomy)
    logits = head.logits(head.normalise(h, range(lm.num_blocks + 1)))[:, 0].double()
    assert len(logits) == len(wanted["rows"])
    if dtype == "bfloat16":  # The blocks round: only the head's own precision is fp32, so rows agree loosely.
        assert torch.argmax(logits[-1]) == wanted["rows"][-1]["top1_id"]
        return
    log_p = torch.log_softmax(logits, -1)
    final = log_p[-1]
    for row, expected in enumerate(wanted["rows"]):
        p, log_q = log_p[row].exp(), log_p[row]
        first = wanted["first_id"]
        assert int(logits[row].argmax()) == expected["top1_id"]
        assert 1 + int((logits[row] > logits[row, first]).sum()) == expected["answer_rank"]
        assert -(p * log_q).sum() / math.log(2) == pytest.approx(expected["entropy_bits"], abs=1e-4)
        assert (p * (log_q - final)).sum() / math.log(2) == pytest.approx(expected["kl_to_final_bits"], abs=1e-4)
        assert (final.exp() * (final - log_q)).sum() / math.log(2) == pytest.approx(
            expected["kl_from_final_bits"], abs=1e-4
        )
        assert float(p.max()) == pytest.approx(expected["p_top1"], rel=1e-4)


def test_norm_weights_used_by_the_head_are_those_of_the_module() -> None:
    model = tiny_model("cohere2")
    assert torch.equal(Head(find_parts(model)).final.gamma, norm_weights(model.model.norm).gamma)


def test_a_shift_is_projected_without_the_projections_bias() -> None:
    head = toy_head()
    assert head.projection is not None
    assert head.projection[1] is not None
    x, shift = torch.randn(4, 3, 8), torch.randn(4, 3, 8)
    torch.testing.assert_close(head.project(x) + head.project_shift(shift), head.project(x + shift))
    plain = Head(find_parts(tiny_model("llama")))
    wide = torch.randn(2, D_MODEL)
    assert plain.project_shift(wide) is wide
