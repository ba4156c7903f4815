"""Loading, freezing and identifying a model; and every way in which its files can be wrong."""

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch._dynamo.testing import CompileCounterWithBackend
from torch._dynamo.utils import counters
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from logos_pl.errors import InputError
from logos_pl.lm import frozen
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.residuals import residuals
from logos_pl.lm.tokenizer import load_tokenizer
from tests.lm.families import VOCAB, tiny_model

IDS = torch.arange(3, 15)[None]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-llama-test"
    tiny_model("llama", torch.bfloat16).save_pretrained(folder)
    words = {f"w{i}": i for i in range(VOCAB)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(folder)
    return folder


def test_a_folder_is_loaded_frozen_with_what_identifies_it(saved: Path) -> None:
    lm = FrozenLM.load(str(saved))
    assert (lm.model_id, lm.clean_model_name) == ("tiny-llama-test", "tiny-llama-test")
    assert lm.model_commit.startswith("sha256:")
    assert lm.tokenizer_commit.startswith("sha256:")
    assert lm.model_commit != lm.tokenizer_commit
    assert (lm.num_blocks, lm.d_model, lm.vocab_size, lm.context_length) == (3, 32, VOCAB, 64)
    assert (lm.dtype, str(lm.device)) == (torch.float32, "cpu")
    assert not lm.model.training
    assert not any(p.requires_grad for p in lm.model.parameters())
    assert lm.tokenizer("w5 w7").input_ids == [5, 7]
    assert load_tokenizer(str(saved))("w5 w7").input_ids == [5, 7]


def test_a_frozen_model_is_no_module() -> None:
    assert not isinstance(FrozenLM.from_model(tiny_model("llama")), torch.nn.Module)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", torch.bfloat16])
def test_the_dtype_asked_for_is_the_dtype_loaded(saved: Path, dtype: str | torch.dtype) -> None:
    wanted = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype)
    assert FrozenLM.load(str(saved), dtype=dtype).dtype == wanted


def test_logits_are_the_models_own_and_without_gradient(saved: Path) -> None:
    lm = FrozenLM.load(str(saved))
    logits = lm.logits(IDS)
    assert torch.equal(logits, lm.model(input_ids=IDS, use_cache=False).logits)
    assert not logits.requires_grad


def test_a_model_moves_with_its_anatomy() -> None:
    lm = FrozenLM.from_model(tiny_model("llama"), model_id="org/name")
    assert lm.to("cpu") is lm
    assert lm.clean_model_name == "name"
    assert (lm.model_commit, lm.tokenizer_commit) == ("unknown", "unknown")


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_neox"])
def test_compiled_blocks_share_one_graph_and_rows_are_gathered_outside_of_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced, and run without a compiler: not a bit may differ."""
    torch.compiler.reset()
    counted = CompileCounterWithBackend("eager")
    monkeypatch.setattr(frozen, "can_compile", lambda device: True)
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counted))
    lm = FrozenLM.from_model(tiny_model(name))
    ids, positions, rows = torch.arange(3, 43).view(2, 20), torch.tensor([[1, 5], [3, 19]]), [0, 1, 2, 3]
    plain = residuals(lm, ids, positions, rows)

    lm.compile_blocks()
    assert torch.equal(residuals(lm, ids, positions, rows), plain)
    assert torch.equal(residuals(lm, ids + 1, positions, rows), residuals(lm, ids + 1, positions, rows))
    assert counted.frame_count == 1
    assert not counters["graph_break"]


def test_blocks_are_not_compiled_where_there_is_no_compiler_for_the_device() -> None:
    with pytest.raises(InputError, match=r"local/unsaved cannot be compiled on cpu: .* leave --model\.compile out"):
        FrozenLM.from_model(tiny_model("llama")).compile_blocks()


@pytest.mark.parametrize(("name", "attention"), [("llama", "sdpa"), ("gemma3_text", "sdpa"), ("gemma2", "eager")])
def test_attention_is_fused_but_where_a_soft_cap_would_be_lost(name: str, attention: str) -> None:
    assert tiny_model(name).config._attn_implementation == attention


def edit(**changes: object) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))

    return apply


def truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20_000])


def drop_tokenizer(folder: Path) -> None:
    for path in folder.glob("token*"):
        path.unlink()


WRONG = {
    "no weights": (
        lambda d: (d / "model.safetensors").unlink(),
        "m has no weights .model.safetensors or pytorch_model.bin, whole or in shards",
    ),
    "cut weights": (truncate, "model.safetensors of m, a file of its weights, is damaged"),
    "empty weights": (
        lambda d: (d / "model.safetensors").write_bytes(b""),
        "model.safetensors of m, a file of its weights, is damaged",
    ),
    "missing tensors": (edit(num_hidden_layers=5), "the weights of m lack 18 tensors of its architecture"),
    "other shapes": (edit(vocab_size=99), r"the weights of m do not fit its config.json: .* is \[97, 32\] in the file"),
    "impossible shapes": (edit(num_attention_heads=5), r"config.json of m is not valid \(.*multiple"),
    "a word for a number": (edit(hidden_size="wide"), r"config.json of m is not valid \(.*expected int"),
    "unknown architecture": (
        edit(model_type="zorg"),
        r"the architecture 'zorg', which transformers .* does not know",
    ),
    "foreign code": (edit(model_type="zorg", auto_map={"AutoConfig": "a.B"}), "needs code from its repository"),
    "no language model": (edit(model_type="vit"), "'vit', which is not a causal language model"),
    "quantised": (
        edit(quantization_config={"quant_method": "gptq", "bits": 4}),
        "m has GPTQ weights, and reading them needs the package",
    ),
    "no tokenizer": (drop_tokenizer, "has no tokenizer"),
    "empty tokenizer": (lambda d: (d / "tokenizer.json").write_text("{}"), "the tokenizer files of m cannot be read"),
    "damaged tokenizer": (
        lambda d: (d / "tokenizer.json").write_text('{"added_tokens": [], "model": 3}'),
        "the tokenizer files of m cannot be read",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_files_are_one_clear_sentence(saved: Path, tmp_path: Path, what: str) -> None:
    spoil, message = WRONG[what]
    folder = shutil.copytree(saved, tmp_path / "m")
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        FrozenLM.load(str(folder))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_an_unknown_dtype_is_refused(saved: Path) -> None:
    with pytest.raises(InputError, match="dtype is 'int8', but must be `auto`, `float32`, `bfloat16`, `float16`"):
        FrozenLM.load(str(saved), dtype="int8")


def test_foreign_code_is_not_run_even_where_the_architecture_is_known(saved: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(saved, tmp_path / "m")
    edit(auto_map={"AutoModelForCausalLM": "evil.Model"})(folder)
    (folder / "evil.py").write_text("raise SystemExit('foreign code ran')")
    assert type(FrozenLM.load(str(folder)).model).__name__ == "LlamaForCausalLM"


def test_loading_is_silent_and_leaves_transformers_as_it_was(saved: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = (logging.get_verbosity(), logging.is_progress_bar_enabled())
    FrozenLM.load(str(saved))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    out, err = capfd.readouterr()
    assert out + err == ""


def test_the_bundled_demo_loads_under_its_name() -> None:
    lm = FrozenLM.load("demo")
    assert (lm.model_id, lm.clean_model_name) == ("demo", "demo")
    assert lm.tokenizer is not None
