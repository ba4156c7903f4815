"""Numbers that are not finite are reported as such, with their cause, and not as an unknown architecture."""

import pytest
import torch
from transformers import PreTrainedModel

from logos_pl.errors import InputError
from logos_pl.lm.frozen import FrozenLM
from tests.lm.families import tiny_model


def refusal(model: PreTrainedModel) -> str:
    with pytest.raises(InputError) as caught:
        FrozenLM.from_model(model)
    return str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named_with_the_first_row_it_breaks(value: float) -> None:
    model = tiny_model("llama")
    model.model.layers[1].mlp.down_proj.weight[3, 0] = value
    assert refusal(model) == (
        "the weights of LlamaForCausalLM hold numbers that are not finite (model.layers.1.mlp.down_proj.weight first), "
        "and so row 2 (the output of block 2) is not finite; fetch the model again."
    )


def test_a_weight_that_the_cast_to_half_precision_has_made_infinite_is_no_damage() -> None:
    model = tiny_model("llama")
    model.model.layers[1].mlp.down_proj.weight[3, 0] = 1e5
    assert refusal(model.half()) == (
        "row 2 (the output of block 2) of LlamaForCausalLM is not finite in float16, as weights "
        "(model.layers.1.mlp.down_proj.weight first) are too large for this number format; give --model.dtype bfloat16 "
        "or float32."
    )


def test_embedding_and_output_layer_are_looked_at_too() -> None:
    model = tiny_model("llama")
    model.lm_head.weight[50, 0] = float("nan")
    assert "(lm_head.weight first), and so the output of the output layer is not finite" in refusal(model)
    model.model.embed_tokens.weight.fill_(float("nan"))
    assert "(model.embed_tokens.weight first), and so row 0 (the embedding) is not finite" in refusal(model)


def test_the_tokens_of_the_proof_are_looked_at_like_those_of_the_search() -> None:
    """Token 2 stands in the proof's text alone."""
    model = tiny_model("llama")
    model.model.embed_tokens.weight[2] = float("nan")
    assert refusal(model).startswith("the weights of LlamaForCausalLM hold numbers that are not finite")


@pytest.mark.parametrize(
    ("dtype", "size", "remedy"),
    [
        (torch.float16, 1e5, "give --model.dtype bfloat16 or float32"),
        (torch.bfloat16, 1e39, "give --model.dtype float32"),
        (torch.float32, 1e39, "use another model"),
    ],
    ids=str,
)
def test_a_number_format_that_overflows_is_told_from_weights_that_are_broken(
    dtype: torch.dtype, size: float, remedy: str
) -> None:
    model = tiny_model("llama", dtype)
    for part in (model.model.layers[1].mlp.down_proj, model.model.layers[1].mlp.up_proj):
        part.weight *= size**0.5
    name = str(dtype).removeprefix("torch.")
    assert refusal(model) == (
        f"row 2 (the output of block 2) of LlamaForCausalLM is not finite in {name}, though all weights are: its "
        f"numbers are too large for this number format; {remedy}."
    )
