import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from logos_pl.artifacts.fingerprint import check_fingerprint, fingerprint, fixed_tokens
from logos_pl.artifacts.provenance_schema import Fingerprint
from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.loaded_as import LoadedAs, MergedAdapter
from tests.artifacts.lenses import make_lm

DEMO = Path(__file__).parents[2] / "logos_pl" / "demo" / "model"
SCALED = {"rope_type": "linear", "factor": 4.0}


def mark(lm: FrozenLM) -> Fingerprint:
    return fingerprint(lm, Head(lm.anatomy))


def check(recorded: Fingerprint, lm: FrozenLM) -> None:
    check_fingerprint(recorded, lm, Head(lm.anatomy))


def demo(dtype: torch.dtype = torch.float32, **rope: Any) -> FrozenLM:
    """The bundled trained model under one id and commit, whatever is done to its RoPE."""
    config = AutoConfig.from_pretrained(DEMO)
    config.rope_parameters = config.rope_parameters | rope
    model = AutoModelForCausalLM.from_pretrained(DEMO, config=config, dtype=dtype)
    return FrozenLM(model, None, model_id="demo", model_commit="c")


def test_the_fixed_tokens_depend_on_the_vocabulary_alone_and_use_it() -> None:
    # By hand: x ← 6364136223846793005 x + 1442695040888963407 mod 2^64 from x = 10; (x >> 33) mod 10.
    x, wanted = 10, []
    for _ in range(5):
        x = (6364136223846793005 * x + 1442695040888963407) & (2**64 - 1)
        wanted.append((x >> 33) % 10)
    assert fixed_tokens(10, 5).tolist() == [wanted]
    ids = fixed_tokens(32_000, 128)
    assert ids.shape == (1, 128)
    assert 0 <= int(ids.min()) <= int(ids.max()) < 32_000
    assert len(set(ids[0].tolist())) > 120


def test_the_fingerprint_holds_the_models_own_norms_and_logits() -> None:
    lm = make_lm()
    ids = fixed_tokens(50, 128)
    with torch.no_grad():
        out = lm.model(ids, output_hidden_states=True)
    # Transformers' last hidden state is normed already; the rows before it are the residual stream.
    wanted = torch.stack(out.hidden_states[:-1])[:, 0, 15::16].double().norm(dim=-1)
    top = out.logits[0, -1].topk(10)
    found = mark(lm)
    assert torch.allclose(torch.tensor(found.residual_norms[:-1]).double(), wanted, rtol=1e-6)
    assert (len(found.residual_norms), {len(row) for row in found.residual_norms}) == (5, {8})
    assert found.top_ids == top.indices.tolist()
    assert torch.allclose(torch.tensor(found.top_logits), top.values, rtol=1e-5)
    assert (found.dtype, found.device, found.num_tokens) == ("float32", "cpu", 128)
    assert found.head_sha256 == Head(lm.anatomy).sha256()


def test_the_same_model_passes_in_silence_also_through_json() -> None:
    lm = make_lm()
    recorded = Fingerprint(**json.loads(json.dumps(dataclasses.asdict(mark(lm)))))
    check(recorded, make_lm())


def test_a_short_context_shortens_the_sequence() -> None:
    lm = make_lm(max_position_embeddings=5)
    found = mark(lm)
    assert found.num_tokens == 5
    assert {len(row) for row in found.residual_norms} == {5}
    check(found, lm)


@pytest.mark.parametrize("rope", [{"rope_theta": 500_000.0}, {"rope_theta": 1_000.0}, SCALED], ids=str)
def test_a_wrong_rope_is_refused_with_the_size_of_the_drift(rope: dict[str, Any]) -> None:
    recorded = mark(make_lm())
    wrong = make_lm(rope_parameters={"rope_type": "default", "rope_theta": 10_000.0} | rope)
    assert wrong.model_commit == make_lm().model_commit
    with pytest.raises(InputError, match="rotary frequencies"):
        check(recorded, wrong)
    same_frequencies = dataclasses.replace(recorded, rotary=mark(wrong).rotary)  # as if they could not be read
    with pytest.raises(InputError, match=r"drift by \d\.\de[-+]\d\d .* 2e-02 is allowed"):
        check(same_frequencies, wrong)


@pytest.mark.parametrize("rope", [{"rope_theta": 500_000.0}, SCALED], ids=str)
def test_a_wrong_rope_of_a_trained_model_is_refused_and_bfloat16_is_not(rope: dict[str, Any]) -> None:
    recorded = mark(demo())
    same_frequencies = dataclasses.replace(recorded, rotary=mark(demo(**rope)).rotary)  # as if they could not be read
    with pytest.raises(InputError, match="drift by"):
        check(same_frequencies, demo(**rope))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        check(recorded, demo(torch.bfloat16))


def test_rope_scaling_that_the_library_forgets_is_refused() -> None:
    recorded = mark(make_lm(rope_parameters={"rope_theta": 10_000.0} | SCALED))
    with pytest.raises(InputError, match="rotary frequencies"):
        check(recorded, make_lm())


def test_a_scaling_that_only_long_contexts_feel_is_refused_too() -> None:
    scaling = {
        "rope_theta": 10_000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    recorded = mark(make_lm(rope_parameters=scaling))
    with pytest.raises(InputError, match=r"rotary frequencies \(RoPE\) .* [1-9]\d* of \d+ differ"):
        check(recorded, make_lm())


@pytest.mark.parametrize(("then", "now"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
def test_another_dtype_of_the_same_checkpoint_passes_with_the_drift_told(then: torch.dtype, now: torch.dtype) -> None:
    recorded = mark(make_lm(then))
    with pytest.warns(UserWarning, match=r"drifts by \de?.*2e-02 is tolerated\.$"):  # no word of the head: it is equal
        check(recorded, make_lm(now))


def with_head_off_by_a_bit(dtype: torch.dtype) -> FrozenLM:
    lm = make_lm(dtype)
    weight = lm.anatomy.lm_head.weight
    with torch.no_grad():
        weight[7, 3] = (
            torch.nextafter(weight[7, 3].float(), torch.tensor(9.0)).to(dtype) if dtype == torch.float32 else 0
        )
    return lm


def test_one_bit_of_the_head_is_refused_where_no_rounding_can_explain_it() -> None:
    lm = make_lm()
    recorded = mark(lm)
    with pytest.raises(InputError, match=r"head of org/tiny .* differs from that of the lens"):
        check(recorded, with_head_off_by_a_bit(torch.float32))


def test_a_head_that_another_dtype_may_have_rounded_is_left_to_the_drift_and_said_so() -> None:
    # As if the checkpoint held fp32 and the lens had been fitted in bf16: hashes differ, numbers hardly.
    recorded = dataclasses.replace(mark(make_lm()), dtype="bfloat16")
    with pytest.warns(UserWarning, match="hash of its head differs, which the different dtype may explain"):
        check(recorded, with_head_off_by_a_bit(torch.float32))


def scaled(recorded: Fingerprint, by: float) -> Fingerprint:
    rows = [[norm * by for norm in row] for row in recorded.residual_norms]
    return dataclasses.replace(recorded, residual_norms=rows)


def test_the_tolerances_are_those_stated() -> None:
    lm = make_lm()
    recorded = mark(lm)
    check(scaled(recorded, 1 + 0.9e-3), lm)
    for by in (1 + 1.2e-3, 1 + 1.9e-2):
        with pytest.warns(UserWarning, match="drifts by"):
            check(scaled(recorded, by), lm)
    with pytest.raises(InputError, match=r"2\.1e-02"):
        check(scaled(recorded, 1 / (1 + 2.1e-2)), lm)


def test_one_row_or_one_logit_that_drifts_is_enough() -> None:
    lm = make_lm()
    recorded = mark(lm)
    rows = [row if i != 2 else [1.03 * norm for norm in row] for i, row in enumerate(recorded.residual_norms)]
    with pytest.raises(InputError, match=r"drift by 2\.9e-02"):
        check(dataclasses.replace(recorded, residual_norms=rows), lm)
    logits = [recorded.top_logits[0] * 1.1, *recorded.top_logits[1:]]
    with pytest.raises(InputError, match=r"drift by 9\.1e-02"):
        check(dataclasses.replace(recorded, top_logits=logits), lm)


def test_a_model_whose_numbers_overflow_gets_no_fingerprint_and_passes_none() -> None:
    lm = make_lm()
    recorded = mark(lm)
    broken = make_lm()
    with torch.no_grad():
        broken.model.model.layers[1].mlp.down_proj.weight.fill_(float("inf"))
    with pytest.raises(InputError, match="not finite"):
        mark(broken)
    with pytest.raises(InputError, match="drift by nan"):
        check(recorded, broken)
    half = make_lm()
    with torch.no_grad():
        half.anatomy.lm_head.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="drift by nan"):  # the norms alone would pass
        check(dataclasses.replace(recorded, dtype="bfloat16"), half)


@pytest.mark.parametrize(
    "changes",
    [
        {"residual_norms": [[1.0] * 8] * 4},
        {"residual_norms": [[1.0] * 8] * 4 + [[1.0]]},
        {"top_ids": [50] * 10},
        {"top_ids": [-1] * 10},
        {"top_ids": [1]},
        {"top_ids": [], "top_logits": []},
        {"num_tokens": 512},
    ],
    ids=str,
)
def test_a_fingerprint_of_another_shape_is_refused(changes: dict[str, Any]) -> None:
    lm = make_lm()
    with pytest.raises(InputError, match="fingerprint is from a model with"):
        check(dataclasses.replace(mark(lm), **changes), lm)


ADAPTER = MergedAdapter("a", "sha256:1", "a" * 64, "LORA", "m", "c")


@pytest.mark.parametrize(
    "loaded",
    [LoadedAs("GGUF Q8_0", "de-quantised when it is loaded", "m", "m.gguf", "f" * 64), LoadedAs(adapter=ADAPTER)],
)
def test_quantised_or_adapted_is_another_model_however_little_it_differs(loaded: LoadedAs) -> None:
    plain = make_lm()
    other = FrozenLM(plain.model, None, model_id="m", loaded_as=loaded)  # the same numbers
    assert mark(plain).loaded_as is None
    assert mark(other).loaded_as == loaded
    check(mark(other), other)
    with pytest.raises(InputError, match=r"The lens was fitted on plain weights, but m is .*: load the model the lens"):
        check(mark(plain), other)
    with pytest.raises(InputError, match=r"The lens was fitted on .*, but .* is plain: load the model the lens was"):
        check(mark(other), plain)
