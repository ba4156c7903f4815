"""The tokens that models are probed with, and one forward pass over them."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from logos_pl.errors import InputError
from logos_pl.lm.probing import PREFIX, last_call, probe_ids, run_traced, twin_ids, unsupported
from logos_pl.lm.trace import Call
from tests.lm.families import VOCAB, tiny_model


def llama(vocab: int) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
            pad_token_id=0, bos_token_id=1, eos_token_id=2,
        )
    )  # fmt: skip


@pytest.mark.parametrize("vocab", [3, 16, 20, VOCAB, 5000])
def test_probes_are_ids_of_the_model_and_as_different_as_its_vocabulary_allows(vocab: int) -> None:
    model = llama(vocab)
    for ids in (probe_ids(model), probe_ids(model, offset=2), twin_ids(model)):
        assert ids.shape == (2, 8)
        assert 0 <= int(ids.min()) <= int(ids.max()) < vocab
    assert len(probe_ids(model).unique()) == min(vocab, 16)


def test_probes_spread_over_the_vocabulary_and_another_offset_gives_others() -> None:
    model = llama(5000)
    first, second = (set(probe_ids(model, offset).flatten().tolist()) for offset in (0, 1))
    assert max(first) > 4000
    assert not first & second


def test_twins_share_their_first_tokens_and_none_of_the_later_ones_nor_any_probe() -> None:
    model = llama(5000)
    one, other = twin_ids(model)
    assert torch.equal(one[:PREFIX], other[:PREFIX])
    assert not (one[PREFIX:] == other[PREFIX:]).any()
    assert not set(twin_ids(model).flatten().tolist()) & set(probe_ids(model).flatten().tolist())


def test_a_forward_gives_the_calls_of_what_is_watched_and_the_models_own_logits() -> None:
    model = tiny_model("llama")
    ids, blocks = probe_ids(model), list(model.model.layers)
    calls, logits = run_traced(model, ids, blocks[1:])
    assert [call.module for call in calls] == blocks[1:]
    assert torch.equal(calls[0].wrote, calls[1].read)
    assert torch.equal(logits, model(input_ids=ids, use_cache=False).logits)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [(torch.float32, ""), (torch.bfloat16, r" in bfloat16.* it may run in float32: give --model.dtype float32; else")],
    ids=str,
)
def test_a_model_that_does_not_run_on_token_ids_is_refused_with_its_number_format(
    dtype: torch.dtype, hint: str
) -> None:
    model = tiny_model("llama", dtype)
    model.model.layers[1].mlp.down_proj = nn.Linear(3, 3, dtype=dtype)
    says = f"LlamaForCausalLM is not supported{hint}.*use another model, or fetch its config.json again"
    with pytest.raises(InputError, match=says):
        run_traced(model, probe_ids(model), [])


def test_of_several_calls_the_last_one_counts() -> None:
    module, other = nn.Linear(2, 2), nn.Linear(2, 2)
    calls = [Call(m, torch.full((1,), float(k)), torch.zeros(1)) for k, m in enumerate([module, module, other])]
    assert last_call(calls, module) is calls[1]


def test_a_refusal_names_the_architecture_the_reason_and_the_format_that_may_be_at_fault() -> None:
    assert str(unsupported("XForCausalLM", "it is odd")) == "XForCausalLM is not supported: it is odd."
    assert str(unsupported("XForCausalLM", "it is odd", torch.bfloat16)) == (
        "XForCausalLM is not supported in bfloat16: it is odd; it may be in float32: give --model.dtype float32."
    )
