"""Blocks, norms and head of every family, found without knowing its names."""

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertLMHeadModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from logos_pl.errors import InputError
from logos_pl.lm.anatomy import exact_logits, find_parts
from logos_pl.lm.verify import verify
from tests.lm.families import BLOCKS, D_MODEL, FAMILIES, NAMES, VOCAB, build, every, tiny_model
from tests.lm.oracle import last_row

IDS = torch.randint(0, VOCAB, (3, 11), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", every(NAMES))
def test_every_family_is_taken_apart_as_its_own_code_says(name: str) -> None:
    family, model = FAMILIES[name], tiny_model(name)
    anatomy = find_parts(model)
    assert (anatomy.num_blocks, anatomy.d_model, anatomy.vocab_size) == (BLOCKS, D_MODEL, VOCAB)
    assert anatomy.final_norm is (None if family.final_norm is None else model.get_submodule(family.final_norm))
    assert (anatomy.project is not None) == family.project
    assert (anatomy.lm_head.bias is not None) == family.head_bias
    assert (anatomy.logit_multiplier, anatomy.logit_divisor) == (family.multiplier, family.divisor)
    assert anatomy.head_divisor == family.head_divisor
    assert anatomy.softcap == family.softcap
    assert anatomy.family == family.model_type


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", every(NAMES))
def test_the_last_row_decoded_exactly_is_bitwise_the_models_own_logits(name: str, dtype: torch.dtype) -> None:
    model = tiny_model(name, dtype, seed=1)
    h = last_row(model, FAMILIES[name], IDS)
    logits = exact_logits(find_parts(model), h)
    assert torch.equal(logits, model(input_ids=IDS, use_cache=False).logits)


def llama(**changes: object) -> LlamaConfig:
    return LlamaConfig(**{**FAMILIES["llama"].settings, **changes})


def refusal(model: nn.Module) -> str:
    with pytest.raises(InputError) as caught:
        verify(model, find_parts(model))
    return str(caught.value)


class ShiftedForCausalLM(LlamaForCausalLM):
    def forward(self, *args: object, **kwargs: object) -> CausalLMOutputWithPast:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits - output.logits.mean(-1, keepdim=True) * 0.1
        return output


class SkippingForCausalLM(LlamaForCausalLM):
    """The head reads the embedding as well as the last block."""

    def forward(self, input_ids: torch.Tensor, **kwargs: object) -> CausalLMOutputWithPast:
        hidden = self.model(input_ids, **kwargs).last_hidden_state
        return CausalLMOutputWithPast(logits=self.lm_head(hidden + self.model.embed_tokens(input_ids)))


class TuplesForCausalLM(LlamaForCausalLM):
    def forward(self, input_ids: torch.Tensor, **kwargs: object) -> tuple[torch.Tensor]:
        return (super().forward(input_ids, **kwargs).logits,)


class NeedyForCausalLM(LlamaForCausalLM):
    def forward(self, input_ids: torch.Tensor, speaker: int, **kwargs: object) -> CausalLMOutputWithPast:
        return super().forward(input_ids, **kwargs)


class MixedForCausalLM(LlamaForCausalLM):
    """Multiplies by a matrix that stays in fp32 whatever the weights are in."""

    def forward(self, input_ids: torch.Tensor, **kwargs: object) -> CausalLMOutputWithPast:
        hidden = self.model(input_ids, **kwargs).last_hidden_state
        return CausalLMOutputWithPast(logits=self.lm_head(hidden @ torch.eye(D_MODEL)))


class DeepHeadForCausalLM(LlamaForCausalLM):
    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.transform = nn.Sequential(nn.Linear(D_MODEL, D_MODEL), nn.GELU())

    def forward(self, input_ids: torch.Tensor, **kwargs: object) -> CausalLMOutputWithPast:
        hidden = self.model(input_ids, **kwargs).last_hidden_state
        return CausalLMOutputWithPast(logits=self.lm_head(self.transform(hidden)))


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        (ShiftedForCausalLM, "its logits are not the output layer's"),
        (SkippingForCausalLM, "the input of its output layer is not the last block's output"),
        (TuplesForCausalLM, "its forward returns no logits"),
        (NeedyForCausalLM, "it does not run on token ids alone"),
        (DeepHeadForCausalLM, "something other than one linear layer stands between final norm and output layer"),
    ],
)
def test_a_head_of_unknown_kind_is_refused_by_name_and_reason(architecture: type[nn.Module], reason: str) -> None:
    message = refusal(build(lambda: architecture(llama())))
    assert message.startswith(f"{architecture.__name__} is not supported: {reason}")
    assert message.endswith(".")


def test_a_forward_that_fails_in_half_precision_is_refused_with_the_advice_of_float32() -> None:
    message = refusal(build(lambda: MixedForCausalLM(llama()), torch.bfloat16))
    assert message.startswith("MixedForCausalLM is not supported in bfloat16: it does not run on token ids alone (")
    assert "; it may run in float32: give --model.dtype float32; " in message
    find_parts(build(lambda: MixedForCausalLM(llama())))


def test_memory_that_runs_out_is_not_the_architectures_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no room")

    model = tiny_model("llama")
    monkeypatch.setattr(model, "forward", fail)
    with pytest.raises(torch.OutOfMemoryError):
        find_parts(model)


def test_an_encoder_decoder_model_is_refused() -> None:
    config = T5Config(vocab_size=VOCAB, d_model=16, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
    assert "T5ForConditionalGeneration is not supported: it is an encoder-decoder" in refusal(
        build(lambda: T5ForConditionalGeneration(config))
    )


def test_a_model_without_a_head_is_refused() -> None:
    config = GPT2Config(**FAMILIES["gpt2"].settings)
    assert "GPT2Model is not supported: its output layer must be one linear layer" in refusal(
        build(lambda: GPT2Model(config))
    )


def test_a_masked_language_models_head_is_refused() -> None:
    config = BertConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2
    )
    config.is_decoder = True
    assert "BertLMHeadModel is not supported" in refusal(build(lambda: BertLMHeadModel(config)))


def test_a_quantised_head_is_refused() -> None:
    model = tiny_model("llama")
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.to(torch.int8), requires_grad=False)
    assert refusal(model) == (
        "LlamaForCausalLM is not supported: its output layer is quantised (torch.int8); load unquantised weights."
    )


def test_a_configuration_that_lies_about_the_number_of_blocks_is_refused() -> None:
    model = tiny_model("llama")
    model.config.num_hidden_layers = 7
    assert "no module list of it has 7 blocks" in refusal(model)


def test_no_hook_stays_on_the_model() -> None:
    model = tiny_model("llama")
    verify(model, find_parts(model))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_declared_soft_cap_is_kept_even_where_rounding_hides_it() -> None:
    """Under a cap of 1024 no bf16 logit of this model changes a bit; larger ones, on other text, would."""
    model = tiny_model("gemma2", torch.bfloat16)
    model.config.final_logit_softcapping = 1024.0
    logits = model(input_ids=IDS, use_cache=False).logits
    model.config.final_logit_softcapping = None
    assert torch.equal(model(input_ids=IDS, use_cache=False).logits, logits)
    model.config.final_logit_softcapping = 1024.0
    assert find_parts(model).softcap == 1024.0
