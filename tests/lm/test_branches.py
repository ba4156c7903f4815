"""What blocks add to the residual stream, against sums made here and against modules named by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BloomConfig, BloomForCausalLM, PreTrainedModel

from logos_pl.errors import InputError
from logos_pl.lm.anatomy import find_parts
from logos_pl.lm.branches import find_branches, watch_branches
from logos_pl.lm.hooks import gathering
from tests.lm.families import BLOCKS, D_MODEL, NAMES, VOCAB, build, every, tiny_model

IDS = torch.randint(3, VOCAB, (2, 9), generator=torch.Generator().manual_seed(8))
PLACES = torch.tensor([4, 17, 0])
# One normalises the stream itself, the others add one branch per block, or three, or scale two by a computed number.
WITHOUT_BRANCHES = ("opt_post_norm", "mamba", "mamba2", "falcon_h1", "minicpm3")
DECOMPOSED = [name for name in NAMES if name not in WITHOUT_BRANCHES]
BY_HAND = {
    "llama": ("self_attn", "mlp"),
    "gemma2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "olmo2": ("post_attention_layernorm", "post_feedforward_layernorm"),
    "gpt2": ("attn", "mlp"),
    "gpt_neox": ("attention", "mlp"),
    "falcon_new": ("self_attention", "mlp"),
    "phi": ("self_attn", "mlp"),
    "cohere": ("self_attn", "mlp"),
    "granite": ("self_attn", "mlp"),
    "mixtral": ("self_attn", "mlp"),
    "opt": ("self_attn", "fc2"),
}


def kept_of(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """What the branches add and the stream at the ends, [blocks, 2, pos, d] and [2, pos, d], from one forward."""
    anatomy = find_parts(model)
    branches = find_branches(model, anatomy)
    ends: list[Tensor] = []
    first, last = anatomy.blocks[0], anatomy.blocks[-1]
    handles = [
        first.register_forward_pre_hook(
            lambda m, args, kwargs: ends.append((*args, *kwargs.values())[0]), with_kwargs=True
        ),
        last.register_forward_hook(lambda m, args, out: ends.append(out[0] if isinstance(out, tuple) else out)),
    ]
    kept = torch.zeros(BLOCKS, 2, len(PLACES), D_MODEL, dtype=model.dtype)
    with torch.no_grad(), gathering(*watch_branches(branches, kept, PLACES)):
        model(input_ids=IDS, use_cache=False)
    for handle in handles:
        handle.remove()
    return kept, torch.stack([h.reshape(-1, D_MODEL)[PLACES] for h in ends])


@pytest.mark.parametrize("name", every(DECOMPOSED))
def test_in_every_family_the_branches_add_up_to_what_the_blocks_add(name: str) -> None:
    kept, (first, last) = kept_of(tiny_model(name))
    assert (kept.abs().amax(dim=-1) > 0.01).all(), "no branch is missing"
    torch.testing.assert_close(first.double() + kept.double().sum(dim=(0, 1)), last.double(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("name", every(DECOMPOSED))
def test_the_branches_are_found_in_half_precision_too(name: str) -> None:
    model = tiny_model(name, torch.bfloat16)
    anatomy = find_parts(model)
    wanted = tiny_model(name)
    paths = {module: path for path, module in model.named_modules()}
    in_fp32 = {module: path for path, module in wanted.named_modules()}
    for half, full in zip(find_branches(model, anatomy), find_branches(wanted, find_parts(wanted)), strict=True):
        assert [paths[half.attention], paths[half.mlp]] == [in_fp32[full.attention], in_fp32[full.mlp]]


@pytest.mark.parametrize("name", BY_HAND)
def test_the_branches_are_the_modules_that_the_familys_code_adds(name: str) -> None:
    model = tiny_model(name)
    anatomy = find_parts(model)
    for block, branches in zip(anatomy.blocks, find_branches(model, anatomy), strict=True):
        assert [branches.attention, branches.mlp] == [block.get_submodule(path) for path in BY_HAND[name]]
        assert branches.multiplier == (0.5 if name == "granite" else 1.0)


def test_branches_below_modules_that_add_the_stream_themselves_are_found() -> None:
    model = build(
        lambda: BloomForCausalLM(BloomConfig(vocab_size=VOCAB, hidden_size=D_MODEL, n_layer=BLOCKS, n_head=4))
    )
    kept, (first, last) = kept_of(model)
    torch.testing.assert_close(first + kept.sum(dim=(0, 1)), last, rtol=1e-5, atol=2e-5)


def test_blocks_that_normalise_the_stream_itself_are_refused_by_name() -> None:
    model = tiny_model("opt_post_norm")
    with pytest.raises(
        InputError, match=r"does not support OPTForCausalLM: the output of block 1 .*without `attribution`"
    ):
        find_branches(model, find_parts(model))


def test_a_block_with_a_further_branch_is_refused_by_its_number() -> None:
    model = tiny_model("llama")
    model.model.layers[1].register_forward_hook(lambda m, args, out: out + 0.01 * args[0])
    with pytest.raises(InputError, match="does not support LlamaForCausalLM: the output of block 2 "):
        find_branches(model, find_parts(model))


def test_the_hooks_go_away_also_when_the_forward_fails() -> None:
    model = tiny_model("gpt2")
    anatomy = find_parts(model)
    branches = find_branches(model, anatomy)

    def hooks() -> int:
        return sum(len(module._forward_hooks) for module in model.modules())

    def fail(*_: Any) -> None:
        raise RuntimeError("the disk is on fire")

    assert hooks() == 0
    handle = anatomy.blocks[1].register_forward_pre_hook(fail)
    kept = torch.zeros(BLOCKS, 2, len(PLACES), D_MODEL)
    with pytest.raises(RuntimeError, match="on fire"), gathering(*watch_branches(branches, kept, PLACES)):
        model(input_ids=IDS, use_cache=False)
    handle.remove()
    assert hooks() == 0
    assert kept[0].abs().min() > 0
    assert float(kept[1:].abs().max()) == 0.0
    assert isinstance(branches[0].mlp, nn.Module)
