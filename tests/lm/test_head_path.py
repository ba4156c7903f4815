"""The way from row n to the logits, where it is not the usual one."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from logos_pl.errors import InputError
from logos_pl.lenses.head import Head
from logos_pl.lm.anatomy import exact_logits, find_parts
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.verify import verify
from tests.lm.families import FAMILIES, LLAMA_LIKE, VOCAB, build, tiny_model
from tests.lm.oracle import last_row

IDS = torch.randint(0, VOCAB, (3, 11), generator=torch.Generator().manual_seed(5))


class DividingForCausalLM(LlamaForCausalLM):
    divisor = 3.25

    def forward(self, input_ids: torch.Tensor, **kwargs: object) -> CausalLMOutputWithPast:
        hidden = self.model(input_ids, **kwargs).last_hidden_state
        return CausalLMOutputWithPast(logits=self.lm_head(hidden / self.divisor))


class CutForCausalLM(LlamaForCausalLM):
    """Leaves out the rows that pad its vocabulary (Inkling)."""

    def forward(self, *args: object, **kwargs: object) -> CausalLMOutputWithPast:
        output = super().forward(*args, **kwargs)
        output.logits = output.logits[..., :-7]
        return output


class LoopedForCausalLM(LlamaForCausalLM):
    """Runs its blocks twice (recurrent depth)."""

    def forward(self, input_ids: torch.Tensor, **kwargs: object) -> CausalLMOutputWithPast:
        first = self.model(input_ids, **kwargs).last_hidden_state
        return CausalLMOutputWithPast(logits=self.lm_head(self.model(inputs_embeds=first).last_hidden_state))


def refusal(model: nn.Module) -> str:
    with pytest.raises(InputError) as caught:
        verify(model, find_parts(model))
    return str(caught.value)


def llama(architecture: type[nn.Module]) -> nn.Module:
    return build(lambda: architecture(LlamaConfig(**LLAMA_LIKE)))


@pytest.mark.parametrize("divisor", [0.3, 2.0, 3.25, 12.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_divisor_in_front_of_the_output_layer_is_found_to_the_bit(
    divisor: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = llama(DividingForCausalLM)
    monkeypatch.setattr(DividingForCausalLM, "divisor", divisor)
    model.to(dtype)
    anatomy = find_parts(model)
    verify(model, anatomy)
    assert anatomy.head_divisor == divisor
    logits = exact_logits(anatomy, last_row(model, FAMILIES["llama"], IDS))
    assert torch.equal(logits, model(input_ids=IDS, use_cache=False).logits)


def test_the_divisor_is_in_the_logits_and_the_hash_of_a_lenses_head() -> None:
    model = tiny_model("minicpm3")
    head = Head(FrozenLM.from_model(model).anatomy)
    h = last_row(model, FAMILIES["minicpm3"], IDS)
    logits = head.logits(head.normalise(h.reshape(1, -1, h.shape[-1]), [head.num_rows - 1]))
    torch.testing.assert_close(logits.view(*IDS.shape, VOCAB), model(input_ids=IDS).logits, rtol=1e-5, atol=1e-5)
    digest = head.sha256()
    model.config.dim_model_base = 8
    assert Head(FrozenLM.from_model(model).anatomy).sha256() != digest


def test_a_divisor_in_front_of_a_bias_is_refused() -> None:
    model = llama(DividingForCausalLM)
    model.lm_head = nn.Linear(32, VOCAB).requires_grad_(False)
    assert "its output layer has a scaled input and a bias" in refusal(model)


def test_logits_that_are_left_out_are_counted_in_the_refusal() -> None:
    assert refusal(llama(CutForCausalLM)) == (
        "CutForCausalLM is not supported: it leaves out 7 of the 97 logits of its output layer."
    )


def test_blocks_that_run_several_times_are_refused_by_that_reason() -> None:
    assert "its blocks run several times in one pass, so that a row has no single depth" in refusal(
        llama(LoopedForCausalLM)
    )


DENSE_HEADS = {
    "roberta": (LLAMA_LIKE | {"is_decoder": True}, "in between run Linear, LayerNorm"),
    "bert": (
        LLAMA_LIKE | {"is_decoder": True},
        "stands between final norm and output layer (Linear, GELUActivation, LayerNorm)",
    ),
    "modernbert-decoder": (
        LLAMA_LIKE,
        "stands between final norm and output layer (Linear, GELUActivation, LayerNorm)",
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("model_type", DENSE_HEADS)
def test_a_head_of_dense_layer_gelu_and_norm_is_refused_with_these_modules(model_type: str, dtype: torch.dtype) -> None:
    """Neither is rounding the reason, nor would float32 help."""
    settings, reason = DENSE_HEADS[model_type]
    config = AutoConfig.for_model(model_type, **settings)
    says = refusal(build(lambda: AutoModelForCausalLM.from_config(config), dtype))
    assert reason in says
    assert "float32" not in says
