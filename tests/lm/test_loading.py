"""Damaged configurations and tokenizers, in-process and by the hundred; and what of a configuration is put right."""

import copy
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from logos_pl.errors import InputError, LogosError
from logos_pl.lm import loading
from logos_pl.lm.config import read_config
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.loading import read_model
from logos_pl.lm.model_shape import model_shape, shape_of
from logos_pl.lm.sources import locate
from tests.lm.families import tiny_model
from tests.lm.model_folder import edit
from tests.lm.placed import save
from tests.tiny import make_model

IDS = torch.arange(3, 15)[None]
DELETED = object()
DEEP: Any = 0
for _ in range(70):
    DEEP = [DEEP]
VALUES: tuple[Any, ...] = (
    DELETED,
    None,
    -1,
    0,
    10**9,
    0.5,
    [],
    {},
    "x",
    True,
    math.nan,
    math.inf,
    -(10**30),
    [None],
    {"x": 1},
    DEEP,
)
FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
# Keys that a file need not have and that change what a library does.
FURTHER = {
    "config.json": [
        "attn_implementation", "experts_implementation", "quantization_config", "transformers_weights", "rope_scaling",
        "layer_types", "fusion_config", "output_hidden_states", "output_attentions", "return_dict", "auto_map",
        "is_encoder_decoder", "text_config", "id2label", "base_model_tp_plan", "sliding_window", "pruned_heads",
    ],
    "tokenizer_config.json": [
        "model_max_length", "added_tokens_decoder", "auto_map", "chat_template", "extra_special_tokens", "padding_side",
        "pad_token", "unk_token", "model_input_names", "tokenizer_object", "add_bos_token", "backend",
    ],
    "generation_config.json": ["cache_implementation", "watermarking_config", "max_length", "temperature"],
    "tokenizer.json": [],
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested values, the entries of a vocabulary left out but for its first."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    for key, part in items[: 1 if len(items) > 15 and path else None]:
        yield (*path, key)
        if isinstance(part, dict | list):
            yield from places(part, (*path, key))


def damaged(content: dict[str, Any], place: tuple[Any, ...], value: object) -> dict[str, Any]:
    content = copy.deepcopy(content)
    inner: Any = content
    for key in place[:-1]:
        inner = inner[key]
    if value is DELETED:
        inner.pop(place[-1])
    else:
        inner[place[-1]] = value
    return content


def outcome(folder: Path) -> str:
    """How loading ends: nothing, or its sentence."""
    try:
        FrozenLM.load(str(folder))
    except LogosError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:config.json of m requests the attention")
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_refused_in_one_sentence_or_makes_a_model(folder: Path, file: str) -> None:
    rng = random.Random(f"12 {file}")
    content = json.loads((folder / file).read_text())
    everywhere = [*places(content), *((key,) for key in FURTHER[file])]
    cases = [
        (place, value) for place in everywhere for value in VALUES if value is not DELETED or place in places(content)
    ]
    refused = 0
    for place, value in rng.sample(cases, min(len(cases), 90)):
        (folder / file).write_text(json.dumps(damaged(content, place, value)))
        said = outcome(folder)
        refused += said != ""
        assert "\n" not in said, (place, value)
        assert len(said) < 600, (place, value)
        assert said == "" or said.endswith("."), (place, value, said)
    assert refused > 5


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "content", ["", "null", "[]", '"x"', "NaN", "[" * 100_000, '{"a":' * 100_000, '{"a": 1, "a": 2}', "\x00\xff", "{"]
)
def test_a_file_that_is_no_json_object_is_named(folder: Path, file: str, content: str) -> None:
    (folder / file).write_bytes(content.encode("latin-1"))
    assert outcome(folder).startswith(f"{file} of m ")


WRONG = {
    "rope": ({"rope_parameters": {"rope_type": "foo"}}, r"m is not valid \(rope_type is 'foo'; KeyError"),
    "rope factor": (
        {"rope_parameters": {"rope_type": "linear"}},
        r"is not valid \(rope_type is 'linear'; KeyError: .*Missing required keys .* \{'factor'\}",
    ),
    "activation": ({"hidden_act": "evil"}, r"\(hidden_act is 'evil'; KeyError: 'evil'\); fetch the model again"),
    "dtype": ({"dtype": "fp16"}, r"\(dtype is 'fp16'; AttributeError"),
    "padding": ({"pad_token_id": 23}, "has the pad_token_id 23, but token ids end at 22"),
    "no heads": ({"num_key_value_heads": 0}, r"is not valid \(ZeroDivisionError"),
    "layers": ({"num_hidden_layers": 10**9}, "no model has more than 4,096"),
    "no layers": ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive integer, but is 0"),
    "no context": ({"max_position_embeddings": 0}, "max_position_embeddings must be a positive integer, but is 0"),
    "family": ({"model_type": ["llama"]}, r"the architecture \['llama'\], which transformers .* does not know"),
    "much larger": ({"intermediate_size": 10_000}, "hold 10,096 numbers, but its config.json describes a model of 1,9"),
    "shallower": ({"num_hidden_layers": 2}, r"have blocks that its config.json does not describe, model.layers.2"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_value_is_named_with_its_key(folder: Path, what: str) -> None:
    changes, says = WRONG[what]
    with pytest.raises(InputError, match=says):
        FrozenLM.load(str(edit(folder, **changes)))


def test_blocks_behind_the_last_that_predict_further_tokens_may_stand_in_the_weights(folder: Path) -> None:
    assert FrozenLM.load(str(edit(folder, num_hidden_layers=2, num_nextn_predict_layers=2))).num_blocks == 2


def test_a_table_that_is_not_finite_is_refused(whole: Path) -> None:
    lm = FrozenLM.load(str(whole))
    loading._check_tables(lm.model)
    lm.model.model.rotary_emb.inv_freq[1] = math.inf
    with pytest.raises(InputError, match=r"model\.rotary_emb\.inv_freq, made from its numbers, is not finite"):
        loading._check_tables(lm.model)


def test_quantised_weights_may_hold_fewer_numbers_than_the_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config(locate(str(folder)))
    numbers = shape_of(config).num_parameters
    with pytest.raises(InputError, match="describes a model of"):
        loading._check_numbers(config, numbers // 3)
    config.quantization_config = {"quant_method": "gptq"}
    loading._check_numbers(config, numbers // 8)


def test_weights_with_a_tensor_too_many_are_read(whole: Path, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert torch.equal(FrozenLM.load(str(folder)).logits(IDS), FrozenLM.load(str(whole)).logits(IDS))


@pytest.mark.parametrize("name", ["llama_tied", "jamba"])
def test_numbers_do_not_depend_on_where_in_its_file_a_tensor_begins(name: str, tmp_path: Path) -> None:
    ids, whole = torch.arange(3, 14).view(1, -1), tiny_model(name)
    found, starts = [], set()
    for shift in range(0, 64, 8):
        source = save(whole, tmp_path / f"{shift}")
        path = source.folder / "model.safetensors"
        save_file(load_file(path), path, {"format": "pt", "shift": " " * shift})
        starts.add((8 + int.from_bytes(path.read_bytes()[:8], "little")) % 64)
        model = read_model(source, read_config(source), torch.float32)
        assert [tensor.data_ptr() % 64 for tensor in model.state_dict().values()] == [0] * len(model.state_dict())
        found.append(model.requires_grad_(False)(ids).logits)
        assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == (name == "llama_tied")
    assert len(starts) == 8
    assert all(torch.equal(logits, found[0]) for logits in found)


def test_parameters_that_share_memory_share_it_when_they_are_aligned() -> None:
    memory = torch.arange(1.0, 66.0)
    table, head = (nn.Parameter(memory[1:].view(8, 8), requires_grad=False) for _ in range(2))
    model = nn.Module()
    model.table, model.head, model.other = table, head, nn.Parameter(memory[1:33].view(8, 4), requires_grad=False)
    loading.align(model)
    assert table.data_ptr() == head.data_ptr()
    assert [tensor.data_ptr() % 64 for tensor in model.parameters()] == [0] * 3
    assert torch.equal(table, memory[1:].view(8, 8))
    assert torch.equal(model.other, memory[1:33].view(8, 4))


def test_a_model_of_one_block_has_a_shape_and_loads(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "one", num_hidden_layers=1)
    assert model_shape(str(folder)).num_blocks == 1
    assert FrozenLM.load(str(folder)).num_blocks == 1


def test_a_model_whose_context_is_shorter_than_the_probe_is_refused(tmp_path: Path) -> None:
    config = GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=23, n_positions=4)
    with pytest.raises(InputError, match="GPT2LMHeadModel is not supported: it does not run on token ids alone"):
        FrozenLM.from_model(GPT2LMHeadModel(config))
