"""A tiny model folder, a tiny corpus and a configuration over them: what the tests of whole runs stand on."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from logos_pl.cli.run import KINDS
from logos_pl.fit.module import TuningModule
from logos_pl.functional.schedules import ScheduleName
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.memory import ModelShape
from logos_pl.settings.lens import TuningSettings
from logos_pl.settings.resolve import resolve_tuning

WORDS = [
    "sun", "moon", "river", "stone", "bird", "tree", "cloud", "fire", "snow", "wind",
    "light", "dark", "song", "road", "hill", "sea", "leaf", "rain", "star", "door",
]  # fmt: skip


def make_model(folder: Path, seed: int = 0, **overrides: Any) -> Path:
    """A random Llama of four blocks over a word-level vocabulary, saved as `from_pretrained` wants it."""
    torch.manual_seed(seed)
    words = ["<s>", "<unk>", ".", *WORDS]
    settings = {
        "vocab_size": len(words),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "initializer_range": 0.4,
        "bos_token_id": 0,
        "eos_token_id": None,
        "tie_word_embeddings": False,
    }
    model = LlamaForCausalLM(LlamaConfig(**(settings | overrides)))
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>").save_pretrained(folder)
    return folder


CHAT_TEMPLATE = (
    "{{ bos_token }} {% for m in messages %}{{ 'hill' if m.role == 'user' else 'road' }} {{ m.content }} . {% endfor %}"
    "{% if add_generation_prompt %}road{% endif %}"
)
"""Turns of a user begin with `hill`, all others with `road`."""


def make_chat_model(folder: Path, template: str = CHAT_TEMPLATE) -> Path:
    """The same model with a chat template."""
    make_model(folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def make_conversations(folder: Path, conversations: int = 400, seed: int = 0) -> Path:
    """JSON lines of conversations of random words."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        [
            {"role": role, "content": " ".join(rng.choices(WORDS, k=rng.randint(2, 20)))}
            for role in ("user", "assistant")
        ]
        for _ in range(conversations)
    ]
    (folder / "000.jsonl").write_text("".join(json.dumps({"messages": messages}) + "\n" for messages in rows))
    return folder


def make_corpus(folder: Path, documents: int = 800, shards: int = 2, seed: int = 0) -> Path:
    """JSON lines of short documents of random words."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        lines = [
            json.dumps({"text": " ".join(rng.choices(WORDS, k=rng.randint(5, 60))) + " ."})
            for _ in range(documents // shards)
        ]
        (folder / f"{shard:03d}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def fit_arguments(model: Path, corpus: Path, logs: Path, **overrides: Any) -> list[str]:
    """The command line of a fit of twelve steps with a validation every four; `overrides` are dotted options."""
    options = {
        "model.model_id": model,
        "model.rank": 4,
        "model.lr": 1e-3,
        "data.dataset": corpus,
        "data.tokens": 12 * 8 * 32,
        "data.seq_len": 32,
        "data.effective_batch_seqs": 8,
        "data.micro_batch_seqs": 4,
        "data.positions_per_seq": 4,
        "data.held_out_frac": 0.1,
        "data.val_seqs": 8,
        "data.lanes": 4,
        "data.num_workers": 0,
        "data.validate_every_steps": 4,
        "trainer.accelerator": "cpu",
        "trainer.default_root_dir": logs / "lightning_logs",
        "export.folder": logs / "lenses",
    } | overrides
    return [f"--{key}={value}" for key, value in options.items()]


def own(command: str, arguments: list[str]) -> list[str]:
    """The command line of a command: those of the options that it takes."""
    takes = KINDS[command].accepts()
    return [command, *(part for part in arguments if part.partition("=")[0].removeprefix("--") in takes)]


def accepted(command: str, arguments: list[str]) -> list[str]:
    """A command line of a fit's options: those of them that the command takes, too, and a short test."""
    return own(command, ["--data.test_seqs=8", *arguments])


SHAPE = ModelShape("llama", 10_000, 4, 16, 23)
"""Sizes of `make_model`'s models."""


def resolved(schedule: ScheduleName = "full", shape: ModelShape = SHAPE, **settings: Any) -> TuningSettings:
    """A fit's options of the model with every `auto` resolved."""
    return resolve_tuning(TuningSettings(**settings), schedule, shape)


def tuning_module(lm: FrozenLM, seed: int = 316, **settings: Any) -> TuningModule:
    """The module of a fit on a loaded model."""
    shape = ModelShape("llama", 10_000, lm.num_blocks, lm.d_model, lm.vocab_size)
    module = TuningModule(resolved(shape=shape, model_id=lm.model_id, **settings), seed=seed)
    module.build(lm)
    return module


def namespace(nested: dict[str, Any]) -> SimpleNamespace:
    """Dictionaries as attributes, all the way down, as a parsed configuration has them."""
    return SimpleNamespace(
        **{key: namespace(value) if isinstance(value, dict) else value for key, value in nested.items()}
    )


def make_imported_lens(folder: Path, scale: float = 0.0, model_id: str = "tiny-llama") -> Path:
    """A lens for `make_model` in the tuned-lens package's format; of scale 0 it is the norm lens."""
    blocks, width = 4, 16
    folder.mkdir()
    config = {"base_model_name_or_path": model_id, "d_model": width, "num_hidden_layers": blocks}
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(3)
    shapes = {"weight": (width, width), "bias": (width,)}
    params = {
        f"{i}.{name}": scale * torch.randn(shape, generator=generator)
        for i in range(blocks)
        for name, shape in shapes.items()
    }
    torch.save(params, folder / "params.pt")
    return folder


def make_jacobian_lens(path: Path, blocks: Sequence[int] = (0, 1, 2), **changes: Any) -> Path:
    """A Jacobian lens for `make_model` as its reference implementation saves it; `changes` are of its keys."""
    generator = torch.Generator().manual_seed(4)
    maps = {block: torch.eye(16) + 0.1 * torch.randn(16, 16, generator=generator) for block in blocks}
    content = {"J": maps, "n_prompts": 25, "source_layers": list(blocks), "d_model": 16} | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return path
