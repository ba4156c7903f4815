"""A folder with a valid example of everything that logos-pl reads, made once and copied for each case."""

import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    PreTrainedModel,
)

from logos_pl.cli import hub
from logos_pl.cli.commands import OWN_PARSERS
from logos_pl.cli.entry import main
from tests.quantised import make_adapter, make_gguf
from tests.tiny import (
    WORDS,
    make_chat_model,
    make_conversations,
    make_corpus,
    make_imported_lens,
    make_jacobian_lens,
    make_model,
)

COMMANDS = ("fit", "prism", "jacobian", "validate", "test", "predict", "selftest", "read")
HUB_COMMANDS = ("push", "pull", "index", "verify", "list")
REPO, COMMIT = "me/lenses", "ab" * 20
MODELS = ("tiny", "gpt", "gemma", "halves", "pickled", "chatty")
"""Model folders: the model used for the rest, two other families, sharded weights, weights in torch's format, and one
with a chat template."""

RUN = {
    "model": {"model_id": "tiny", "rank": 4, "lr": 1e-3},
    "data": {
        "dataset": "text", "tokens": 4 * 8 * 32, "seq_len": 32, "effective_batch_seqs": 8, "micro_batch_seqs": 4,
        "positions_per_seq": 4, "held_out_frac": 0.1, "val_seqs": 8, "test_seqs": 8, "lanes": 4, "num_workers": 0,
        "validate_every_steps": 2, "prompts": "prompts.yaml", "suite": "suite.yaml",
    },
    "intermediates": {"suite": "unspoken.yaml"},
    "trainer": {"accelerator": "cpu"},
    "prism": {"positions": 512},
    "jacobian": {"sequences": 8, "probes": "all"},
}  # fmt: skip

PROMPTS = """\
facts:
- sun moon river stone
- id: river
  prompt: sun moon river
  answer: stone
  relation: nature
  fact: river → stone
  no_filler: sun river
  control: {id: sea, prompt: sun moon sea, answer: leaf, fact: sea → leaf}
"""

CHAT_PROMPTS = """\
facts:
- id: chat
  messages:
  - {role: system, content: sun}
  - {role: user, content: moon river}
  - {role: assistant, content: stone}
  - {role: user, content: star}
  answer: leaf
  no_filler: [{role: user, content: moon}]
  control: {messages: [{role: user, content: sea}], answer: sun}
- messages: [{role: user, content: sun}, {role: assistant, content: moon star}]
- id: ids
  token_ids: [0, 3, 4, 5]
  answer: stone
  no_filler: [0, 3]
"""


def make(root: Path) -> None:
    """Make everything in `root`, which is the working folder afterwards.

    Raises:
        RuntimeError: A command failed on valid input.
    """
    root.mkdir(parents=True, exist_ok=True)
    os.chdir(root)
    _make_models()
    _make_quantised()
    make_corpus(Path("text"), documents=200)
    make_imported_lens(Path("imported"), scale=0.1, model_id="tiny")
    notes = {"model_id": "tiny", "target_layer": 3, "config_json": '{"estimator": "relp"}'}
    make_jacobian_lens(Path("maps/tiny_jacobian_lens.pt"), provenance=notes)
    Path("maps/config.yaml").write_text("np_model_id: tiny\nhf_model_name: tiny\nfit: {target_layer: null}\n")
    Path("run.yaml").write_text(yaml.safe_dump(RUN, sort_keys=False))
    Path("prompts.yaml").write_text(PROMPTS)
    make_conversations(Path("chats"), conversations=200)
    Path("chat.yaml").write_text(CHAT_PROMPTS)
    facts = [
        {"id": f"f{i}", "prompt": f"{WORDS[i]} {WORDS[i + 1]}", "answer": WORDS[i + 2], "relation": "next"}
        for i in range(8)
    ]
    Path("suite.yaml").write_text(yaml.safe_dump({"facts": facts}, sort_keys=False))
    items = [
        {"name": f"i{i}", "prompt": WORDS[i], "intermediates": [WORDS[i + 1]], "target": WORDS[i + 2]} for i in range(4)
    ]
    Path("lens-eval-typo.json").write_text(json.dumps({"items": items}))
    unspoken = [{"id": item.pop("name"), "read_after": item["prompt"], **item} for item in items]
    Path("unspoken.yaml").write_text(yaml.safe_dump({"items": unspoken}, sort_keys=False))
    for command in ("prism", "jacobian", "fit", "test", "predict", "selftest", "validate"):
        if (status := main([command, "--config", "run.yaml"])) not in (0, 3):
            raise RuntimeError(f"{command} ends with exit status {status} on inputs that are whole")
    chat = ["--config", "run.yaml", "--model.model_id=chatty", "--data.prompts=chat.yaml"]
    if main(["selftest", *chat]) != 0:
        raise RuntimeError("selftest fails on conversations that are whole")
    for picture in (*Path("lightning_logs").rglob("*.png"), *Path("lightning_logs").rglob("*.html")):
        picture.unlink()
    _make_hub()
    Path("options.json").write_text(json.dumps(_options()))


def _make_models() -> None:
    make_model(Path("tiny"))
    small: dict[str, Any] = {"vocab_size": 23, "bos_token_id": 0, "eos_token_id": None}
    gpt = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=3, n_head=2, n_positions=64, **small))
    gemma = Gemma2ForCausalLM(
        Gemma2Config(
            hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
            head_dim=8, max_position_embeddings=64, sliding_window=16, pad_token_id=0, **small,
        )
    )  # fmt: skip
    for name, model in (("gpt", gpt), ("gemma", gemma)):
        _save(model, name)
    shutil.copytree("tiny", "halves")
    shutil.copytree("tiny", "pickled")
    make_chat_model(Path("chatty"))
    llama = LlamaForCausalLM.from_pretrained("tiny")
    Path("halves/model.safetensors").unlink()
    llama.save_pretrained("halves", max_shard_size="8KB")
    Path("pickled/model.safetensors").unlink()
    torch.save(llama.state_dict(), "pickled/pytorch_model.bin")


def _make_quantised() -> None:
    """A GGUF file and an adapter, where their packages are installed."""
    if not all(find_spec(name) for name in ("gguf", "peft", "accelerate")):
        return
    Path("stored").mkdir()
    make_gguf(Path("tiny"), Path("stored/tiny.gguf"), "F16")
    for path in Path("tiny").glob("tokenizer*"):
        shutil.copy(path, "stored")
    make_adapter(Path("tiny"), Path("lora"))


def _save(model: PreTrainedModel, name: str) -> None:
    model.save_pretrained(name)
    for path in Path("tiny").glob("tokenizer*"):
        shutil.copy(path, name)


def _make_hub() -> None:
    for kind in ("tuned_lenses", "prisms", "jacobians"):
        shutil.copytree(f"checkpoints/{kind}/tiny", f"hub/{kind}/_local/tiny")
    licence = Path("hub/LICENSES/_local/tiny/LICENSE")
    licence.parent.mkdir(parents=True)
    licence.write_text("Do what you like.\n")
    if hub.main(["index", "hub"]) != 0:
        raise RuntimeError("hub index fails on a folder that is whole")
    cache = Path("cache/hub") / f"datasets--{REPO.replace('/', '--')}"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(COMMIT)
    shutil.copytree("hub", cache / "snapshots" / COMMIT)
    for command in (["verify", "hub"], ["pull", "--repo_id", REPO, "--all", "--folder", "pulled"]):
        if hub.main(command) != 0:
            raise RuntimeError(f"hub {command[0]} fails on a release that is whole")
    shutil.rmtree("pulled")


def _options() -> dict[str, list[str]]:
    """The options of every command, from its help."""
    found = {command: _listed([command]) for command in COMMANDS}
    return found | {f"hub {command}": _listed(["hub", command]) for command in HUB_COMMANDS}


def _listed(command: Sequence[str]) -> list[str]:
    said = StringIO()
    with redirect_stdout(said):
        try:
            if command[0] in OWN_PARSERS:
                import_module(f"logos_pl.cli.{command[0]}").main([*command[1:], "--help"])
            else:
                main([*command, "--help"])
        except SystemExit:
            pass
    names = re.findall(r"(?:^\s+|, )(--[A-Za-z_][\w.]*)\+?(?=[\s,])", said.getvalue(), flags=re.MULTILINE)
    return sorted({name for name in names if not name.endswith(".help")} - {"--help", "--print_config"})
