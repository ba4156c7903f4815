"""An adapter is merged into the weights: the merged model computes what peft's unmerged one does."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from logos_pl.errors import InputError
from logos_pl.lm import packages
from logos_pl.lm.adapter_sources import find_adapter
from logos_pl.lm.adapters import check_adapter
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.load_model import load_model
from tests.quantised import make_adapter, package, wide_model

IDS = torch.arange(3, 15)[None]

KINDS: dict[str, dict[str, Any]] = {
    "LORA": {},
    "LORA, rank-stabilised": {"use_rslora": True, "target_modules": "all-linear"},
    "LORA, DoRA": {"use_dora": True},
    "LORA, with whole modules": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "LORA, of the head": {"target_modules": ["lm_head", "q_proj"]},
    "LOHA": {},
    "LOKR": {},
    "IA3": {},
    "OFT": {"oft_block_size": 4},
    "HRA": {"r": 2},
    "VERA": {},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    package("peft")
    return wide_model(tmp_path_factory.mktemp("adapters") / "base")


@pytest.fixture(scope="module")
def lora(base: Path) -> Path:
    return make_adapter(base, base.parent / "lora")


@pytest.fixture
def adapter(lora: Path, tmp_path: Path) -> Path:
    return shutil.copytree(lora, tmp_path / "own")


def edit(adapter: Path, **changes: object) -> Path:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | changes))
    return adapter


@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_model_gives_the_logits_of_pefts_own(base: Path, tmp_path: Path, kind: str) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = make_adapter(base, tmp_path / "a", kind.partition(",")[0], **KINDS[kind])
    with warnings.catch_warnings(action="ignore"):  # of peft, on names of transformers
        unmerged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    with torch.no_grad():
        wanted = unmerged(input_ids=IDS).logits
    lm = FrozenLM.load(str(base), adapter=str(folder))
    assert torch.allclose(lm.logits(IDS), wanted, rtol=1e-4, atol=1e-4)
    assert float((lm.logits(IDS) - FrozenLM.load(str(base)).logits(IDS)).abs().max()) > 0.01
    assert type(lm.model).__name__ == "LlamaForCausalLM"


def test_the_record_names_adapter_and_base_with_their_hashes(base: Path, lora: Path) -> None:
    lm, plain = load_model(str(base), adapter=str(lora), dtype="float32"), FrozenLM.load(str(base))
    assert lm.loaded_as is not None
    merged = lm.loaded_as.adapter
    assert merged is not None
    assert (lm.model_id, merged.adapter_id, merged.type, merged.base_id) == ("lora", "lora", "LORA", "base")
    assert merged.base_commit == plain.model_commit != lm.model_commit
    assert lm.tokenizer_commit == plain.tokenizer_commit


def test_in_half_precision_the_merged_weights_are_rounded_once(base: Path, lora: Path) -> None:
    wanted = FrozenLM.load(str(base), adapter=str(lora)).logits(IDS)
    lm = FrozenLM.load(str(base), adapter=str(lora), dtype="bfloat16")
    assert lm.dtype == torch.bfloat16
    assert float((lm.logits(IDS).float() - wanted).norm() / wanted.norm()) < 0.2


def test_an_adapter_of_one_of_two_tied_matrices_is_refused(tmp_path: Path) -> None:
    package("peft")
    tied = wide_model(tmp_path / "tied", tie_word_embeddings=True)
    folder = make_adapter(tied, tmp_path / "a", target_modules=["lm_head"])
    with pytest.raises(InputError, match=r"changes the embedding or the output layer, which are tied in tied"):
        FrozenLM.load(str(tied), adapter=str(folder))


def test_another_base_than_the_one_it_names_is_said(base: Path, adapter: Path) -> None:
    edit(adapter, base_model_name_or_path="org/Other-7B")
    with pytest.warns(UserWarning, match=r"the adapter own names the base model Other-7B, and is merged into base\."):
        FrozenLM.load(str(base), adapter=str(adapter))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "soft prompts": ({"peft_type": "PROMPT_TUNING"}, "is of the type 'PROMPT_TUNING', which cannot be merged"),
    "no type": ({"peft_type": None}, "is of the type None, which cannot be merged"),
    "other code": (
        {"megatron_config": {"a": 1}, "megatron_core": "os"},
        "sets megatron_config, which cannot be merged",
    ),
    "other blocks": ({"layer_replication": [[0, 2], [1, 4]]}, "sets layer_replication, which cannot be merged"),
    "of its text": ({"alora_invocation_tokens": [1, 2]}, "sets alora_invocation_tokens, which cannot be merged"),
    "files of its training": ({"init_lora_weights": "corda"}, r"starts from 'corda' \(init_lora_weights\)"),
    "a slow pattern": ({"target_modules": "(.+)+x"}, r"gives target_modules by a regular expression that may take"),
    "many repeats": ({"exclude_modules": ".*a.*b.*c.*d.*e"}, "gives exclude_modules by a regular expression that may"),
    "an unknown option": ({"use_zorg": True}, r"sets use_zorg, which peft \d.* does not know; take a newer peft"),
    "another rank": ({"r": 3}, r"the adapter own cannot be merged into base \(RuntimeError: .*size mismatch"),
    "no modules": (
        {"target_modules": ["zorg"]},
        r"the adapter own cannot be merged into base \(target_modules is 'zorg'; ",
    ),
    "fewer modules": ({"target_modules": ["q_proj"]}, "has tensors that have no place in the model: 8 tensors"),
    "more modules": (
        {"target_modules": ["q_proj", "v_proj", "down_proj"]},
        "lacks 8 tensors, .* check that this is its",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_merged_is_refused_by_name(base: Path, adapter: Path, what: str) -> None:
    changes, message = WRONG[what]
    edit(adapter, **changes)
    with pytest.raises(InputError, match=message) as caught:
        FrozenLM.load(str(base), adapter=str(adapter))
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused(base: Path, adapter: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    tensors = load_file(weights)
    name = sorted(tensors)[0]
    save_file(tensors | {name: tensors[name] * torch.nan}, weights, {"format": "pt"})
    with pytest.raises(InputError, match="the adapter own"):
        FrozenLM.load(str(base), adapter=str(adapter))
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(InputError, match=r"adapter_model\.safetensors of own, a file of its weights, is damaged"):
        check_adapter(find_adapter(str(adapter)))
    weights.unlink()
    with pytest.raises(InputError, match=r"the adapter own has no weights \(adapter_model\.safetensors or"):
        check_adapter(find_adapter(str(adapter)))
    (adapter / "adapter_config.json").write_text("[]")
    with pytest.raises(InputError, match=r"adapter_config\.json of own is not a JSON object"):
        check_adapter(find_adapter(str(adapter)))


def test_weights_of_torch_save_are_read_and_code_is_not_run(base: Path, adapter: Path) -> None:
    wanted = FrozenLM.load(str(base), adapter=str(adapter)).logits(IDS)
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    assert torch.equal(FrozenLM.load(str(base), adapter=str(adapter)).logits(IDS), wanted)
    torch.save({"a": Path}, adapter / "adapter_model.bin")
    with pytest.raises(InputError, match=r"adapter_model\.bin of own is damaged or holds code, which is never run"):
        FrozenLM.load(str(base), adapter=str(adapter))


def test_streaming_is_refused_before_weights_are_read(base: Path, lora: Path) -> None:
    with pytest.raises(InputError, match=r"base has the LORA adapter lora, .*, which is neither streamed nor sharded"):
        FrozenLM.load(str(base), adapter=str(lora), placement="streamed")


def test_without_the_packages_the_command_that_installs_them_is_said(
    adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the packages peft and accelerate, .* `pip install peft accelerate`"):
        check_adapter(find_adapter(str(adapter)))
