"""The command line: the sections of a fit's configuration that decide on the step, and what to measure them on."""

from typing import Any, NamedTuple

import torch
from jsonargparse import ActionConfigFile, ArgumentParser
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from benchmarks.loss import LossSetting
from logos_pl.data.datamodule import LensDataModule
from logos_pl.errors import InputError
from logos_pl.lm.devices import choose_device, measure_memory, shape_of
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.loading import read_config, resolve_dtype
from logos_pl.lm.quiet import quiet
from logos_pl.lm.sources import locate
from logos_pl.modules.tuning import LensTuning
from logos_pl.plan import MICRO_BATCH_SEQS

SMALL = {"small": 8192, "small-32k": 32768}
"""Model ids of the random Llamas that are made in memory, and their vocabularies; they read the demo's text through the
demo's tokenizer."""


class Settings(NamedTuple):
    """What the command line asks for.

    Attributes:
        model: Arguments of `LensTuning`.
        data: Arguments of `LensDataModule`.
        loss: What the losses are compared on.
        random_weights: Whether the model's weights are drawn, not read.
        device: A device's name, or `auto`.
        repeats: Rounds of every measurement.
        json: Where the figures are written, too.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    loss: LossSetting
    random_weights: bool
    device: str
    repeats: int
    json: str | None


def parse(arguments: list[str] | None) -> Settings:
    """The settings.

    Raises:
        InputError: They make no sense together.
    """
    given = _parser().parse_args(arguments)
    if given.repeats < 1:
        raise InputError(f"--repeats is {given.repeats}: give 1 or more.")
    model, data = given.model.as_dict(), given.data.as_dict()
    small = model["model_id"] in SMALL
    if small and data["dataset"] == LensDataModule().dataset:
        data["dataset"] = "demo"
    data["model_id"], data["model_revision"] = ("demo", None) if small else (model["model_id"], model["revision"])
    data |= {"val_seqs": 1, "test_seqs": 1}  # nothing is judged here; the least there can be
    loss = LossSetting(**given.loss.as_dict())
    return Settings(model, data, loss, given.random_weights, given.device, given.repeats, given.json)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m benchmarks.fit",
        description="Time of a training step against the model's forward pass, of the lens loss against a naive one, "
        f"and of the data pipeline. Without a model: a random Llama made in memory (`{next(iter(SMALL))}`).",
    )
    parser.add_argument("--config", action=ActionConfigFile, help="configuration of a fit, such as configs/gpt2.yaml")
    parser.add_argument("--random_weights", action="store_true", help="draw the weights; only config.json is read")
    parser.add_argument("--device", default="auto", help="`auto`, `cpu`, `cuda`, `mps`")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of every measurement")
    parser.add_argument("--json", type=str | None, default=None, help="file to write the figures to")
    parser.add_class_arguments(LensTuning, "model", skip={"layers_per_step"})
    parser.add_class_arguments(LensDataModule, "data", skip={"model_id", "model_revision", "val_seqs", "test_seqs"})
    parser.add_class_arguments(LossSetting, "loss")
    for section in ("trainer", "export", "early_stopping"):
        parser.add_argument(f"--{section}", type=dict | None, default=None, help="of a fit; not used here")
    parser.set_defaults({"model.model_id": next(iter(SMALL))})
    return parser


def make_model(given: dict[str, Any], random_weights: bool, device_name: str) -> FrozenLM:
    """The model on its device: made in memory, drawn from its configuration, or loaded as a fit loads it.

    Args:
        given: Arguments of `LensTuning`.
        random_weights: Whether the weights are drawn, not read.
        device_name: A device's name, or `auto`.

    Raises:
        InputError: The configuration or the weights cannot be had, or no device has room.
    """
    model_id, revision, dtype = (given[key] for key in ("model_id", "revision", "dtype"))
    if model_id in SMALL:
        config: Any = _small_config(SMALL[model_id])
    else:
        config = read_config(locate(model_id, revision))
    device = choose_device(shape_of(config), measure_memory(), override=device_name).device
    if model_id not in SMALL and not random_weights:
        return FrozenLM.load(model_id, revision=revision, dtype=dtype, device=device)
    torch.manual_seed(316)
    kind: Any = LlamaForCausalLM._from_config if model_id in SMALL else AutoModelForCausalLM.from_config
    with torch.device(device), quiet():
        model = kind(config, dtype=resolve_dtype(dtype, device, config))
    return FrozenLM.from_model(model, model_id=model_id)


def _small_config(vocab_size: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
    )


def make_data(settings: Settings, lm: FrozenLM) -> LensDataModule:
    """The data module with every `auto` settled as a fit settles it; nothing is read yet."""
    data = LensDataModule(**settings.data)
    if data.micro_batch_seqs == "auto":
        data.micro_batch_seqs = min(MICRO_BATCH_SEQS[lm.device.type], data.effective_batch_seqs)
    data.settle(lm.vocab_size)
    if lm.context_length is not None and data.seq_len > lm.context_length:
        raise InputError(
            f"--data.seq_len {data.seq_len} is beyond the context of {lm.model_id}, {lm.context_length} tokens: "
            "choose at most that."
        )
    return data
