"""The language model of a checkpoint that also reads images, against the whole model and padding."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForMultimodalLM, PreTrainedModel

from logos_pl.errors import InputError
from logos_pl.lm.config import auto_class, read_config
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.model_shape import shape_of
from logos_pl.lm.residuals import residuals
from logos_pl.lm.sources import ModelSource
from tests.lm.families import BLOCKS, D_MODEL, FAMILIES, LLAMA_LIKE, QWEN_VISION, VOCAB, build, tiny_model
from tests.lm.model_folder import edit
from tests.lm.placed import resident, save, streamed

WITH_IMAGES = [name for name, family in FAMILIES.items() if "vision" in family.kind]
IDS = torch.randint(7, VOCAB, (2, 9), generator=torch.Generator().manual_seed(3))
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
QWEN3_5 = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
}
GEMMA4 = {"global_head_dim": 8, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCAB}
LLAMA4 = {"intermediate_size_mlp": 48, "num_local_experts": 2, "num_experts_per_tok": 1}


def whole_model(model_type: str, vision: dict[str, Any], **text: Any) -> PreTrainedModel:
    """A model with an encoder of images, as its checkpoints are saved."""
    config = AutoConfig.for_model(
        model_type, text_config={**LLAMA_LIKE, **text}, vision_config=vision, tie_word_embeddings=False
    )
    return build(lambda: AutoModelForMultimodalLM.from_config(config))


WHOLE = {
    "qwen3_5": lambda: whole_model("qwen3_5", QWEN_VISION, **QWEN3_5),
    "gemma4": lambda: whole_model(
        "gemma4",
        {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": BLOCKS, "num_attention_heads": 2},
        **GEMMA4,
    ),
}


@pytest.fixture(params=[*WITH_IMAGES, *WHOLE])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ModelSource, PreTrainedModel]:
    name = request.param
    model = tiny_model(name) if name in FAMILIES else WHOLE[name]()
    return save(model, tmp_path / name), model


def test_the_logits_on_text_are_those_of_the_whole_model(saved: tuple[ModelSource, PreTrainedModel]) -> None:
    source, model = saved
    lm = resident(source)
    assert lm.num_blocks == BLOCKS
    torch.testing.assert_close(lm.logits(IDS), model(input_ids=IDS).logits, rtol=1e-5, atol=1e-5)


@DTYPES
def test_rows_do_not_depend_on_padding_and_streamed_ones_are_the_same(
    saved: tuple[ModelSource, PreTrainedModel], dtype: torch.dtype
) -> None:
    source, _ = saved
    lm, rows = resident(source, dtype), range(BLOCKS + 1)
    alone = residuals(lm, IDS, None, rows)
    mask = torch.ones(2, 13, dtype=torch.long).index_fill(1, torch.arange(4), 0)
    padded = torch.cat([torch.zeros(2, 4, dtype=torch.long), IDS], dim=1)
    within = residuals(lm, padded, None, rows, mask)[:, :, 4:]
    bound = 1e-4 if dtype == torch.float32 else 0.1
    assert float((within - alone).float().norm(dim=-1).div(alone.float().norm(dim=-1)).max()) < bound
    assert torch.equal(residuals(streamed(source, dtype), IDS, None, rows), alone)


def test_the_blocks_of_the_image_encoder_are_not_the_models(saved: tuple[ModelSource, PreTrainedModel]) -> None:
    source, _ = saved
    lm = resident(source)
    names = {id(module): path for path, module in lm.model.named_modules()}
    assert not any("vis" in names[id(block)] for block in lm.anatomy.blocks)
    shape = shape_of(read_config(source))
    assert (shape.num_blocks, shape.d_model, shape.vocab_size) == (BLOCKS, D_MODEL, VOCAB)


def test_llama_4_with_images_is_read_as_its_language_model(tmp_path: Path) -> None:
    vision = {
        "hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 8,
        "patch_size": 4, "vision_output_dim": 16, "projector_input_dim": 16, "projector_output_dim": 16,
    }  # fmt: skip
    model = whole_model("llama4", vision, **LLAMA4)
    lm = resident(save(model, tmp_path / "llama4"))
    torch.testing.assert_close(lm.logits(IDS), model(input_ids=IDS).logits, rtol=1e-5, atol=1e-5)


def test_settings_of_such_a_model_are_checked_and_put_right_as_of_others(tmp_path: Path) -> None:
    source = save(tiny_model("llava"), tmp_path / "m")
    edit(source.folder, _attn_implementation="flash_attention_2")
    with pytest.warns(UserWarning, match="requests the attention 'flash_attention_2': torch's own is used instead"):
        assert resident(source).num_blocks == BLOCKS
    text = json.loads(source.config_file.read_text())["text_config"]
    edit(source.folder, text_config={**text, "pad_token_id": VOCAB})
    with pytest.raises(InputError, match="m has the pad_token_id 97, but token ids end at 96"):
        read_config(source)


def test_an_encoder_decoder_that_reads_images_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    AutoConfig.for_model("florence2").save_pretrained(tmp_path / "m")
    with pytest.raises(InputError, match="m is of the architecture 'florence2', which is not a causal language model"):
        read_config(ModelSource("m", None, tmp_path / "m" / "config.json"))


def test_a_model_without_images_is_built_by_the_class_for_causal_models() -> None:
    config = AutoConfig.for_model("llama", **LLAMA_LIKE)
    assert auto_class(config).__name__ == "AutoModelForCausalLM"
    assert FrozenLM.from_model(build(lambda: auto_class(config).from_config(config))).num_blocks == BLOCKS
