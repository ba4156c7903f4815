"""The command line: the sections of a fit's configuration that decide on the step, and what to measure them on."""

import copy
import time
from typing import Any, NamedTuple

import torch
from jsonargparse import ActionConfigFile, ArgumentParser
from transformers import AutoModelForCausalLM

from benchmarks.architectures import ARCHITECTURES, SMALL
from benchmarks.loss import LossSetting
from benchmarks.timing import Clock
from logos_pl.data.datamodule import LensDataModule
from logos_pl.errors import InputError
from logos_pl.functional.low_rank import resolve_rank
from logos_pl.lm.config import read_config
from logos_pl.lm.devices import choose_device, measure_memory
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.loading import resolve_dtype
from logos_pl.lm.memory import StepSize
from logos_pl.lm.model_shape import shape_of
from logos_pl.lm.quiet import quiet
from logos_pl.lm.sources import locate
from logos_pl.modules.tuning import LensTuning

SMALL_VOCABULARIES = [8192, 32768]


class RunSettings(NamedTuple):
    """How anything is measured.

    Attributes:
        random_weights: Whether the model's weights are drawn, not read.
        device: A device's name, or `auto`.
        repeats: Rounds of every measurement.
        cpu_time: Whether the clock is the process's own CPU time.
        json: Where the figures are written, too.
    """

    random_weights: bool
    device: str
    repeats: int
    cpu_time: bool
    json: str | None

    @property
    def clock(self) -> Clock:
        """What is read before and after."""
        return time.process_time if self.cpu_time else time.perf_counter


class Settings(NamedTuple):
    """What the command line asks for.

    Attributes:
        run: How it is measured.
        model: Arguments of `LensTuning`.
        data: Arguments of `LensDataModule`.
        loss: What the losses are compared on.
        vocab_sizes: Vocabularies that the step is measured at; None is the model's own.
    """

    run: RunSettings
    model: dict[str, Any]
    data: dict[str, Any]
    loss: LossSetting
    vocab_sizes: list[int | None]


def parse(arguments: list[str] | None) -> Settings:
    """The settings.

    Raises:
        InputError: They make no sense together.
    """
    given = _parser().parse_args(arguments)
    run, model, data = measured(given), given.model.as_dict(), given.data.as_dict()
    vocab_sizes = given.vocab_sizes
    if vocab_sizes is None:
        vocab_sizes = SMALL_VOCABULARIES if model["model_id"] == SMALL else [None]
    data |= {"model_id": model["model_id"], "model_revision": model["revision"]}
    if _made_in_memory(model["model_id"], run.random_weights):
        data |= {"model_id": "demo", "model_revision": None}
        if data["dataset"] == LensDataModule().dataset:
            data["dataset"] = "demo"
    data |= {"val_seqs": 1, "test_seqs": 1}  # nothing is judged here; the least there can be
    return Settings(run, model, data, LossSetting(**given.loss.as_dict()), vocab_sizes)


def measured(given: Any) -> RunSettings:
    """What every benchmark's command line says.

    Raises:
        InputError: It says nothing that can be measured.
    """
    if given.repeats < 1:
        raise InputError(f"--repeats is {given.repeats}: give 1 or more.")
    return RunSettings(given.random_weights, given.device, given.repeats, given.cpu_time, given.json)


def add_run_arguments(parser: ArgumentParser) -> None:
    """The options of every benchmark."""
    parser.add_argument("--config", action=ActionConfigFile, help="configuration of a fit, such as configs/gpt2.yaml")
    parser.add_argument(
        "--random_weights", action="store_true", help="draw the weights; of models in configs/ no file is read"
    )
    parser.add_argument("--device", default="auto", help="`auto`, `cpu`, `cuda`, `mps`")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of every measurement")
    parser.add_argument(
        "--cpu_time", action="store_true", help="count the process's own CPU time: on a busy machine, with one thread"
    )
    parser.add_argument("--json", type=str | None, default=None, help="file to write the figures to")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m benchmarks.fit",
        description="Time and memory of a training step against the model's forward pass, of the lens loss against a "
        f"naive one, and the rate of the data pipeline. Without a model: a random Llama made in memory (`{SMALL}`).",
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--vocab_sizes",
        type=list[int] | None,
        default=None,
        help="vocabularies to measure a model of random weights at; its own, where none are given",
    )
    parser.add_class_arguments(LensTuning, "model", skip={"layers_per_step"})
    parser.add_class_arguments(LensDataModule, "data", skip={"model_id", "model_revision", "val_seqs", "test_seqs"})
    parser.add_class_arguments(LossSetting, "loss")
    for section in ("trainer", "export", "early_stopping"):
        parser.add_argument(f"--{section}", type=dict | None, default=None, help="of a fit; not used here")
    parser.set_defaults({"model.model_id": SMALL})
    return parser


def _made_in_memory(model_id: str, random_weights: bool) -> bool:
    return model_id == SMALL or (random_weights and model_id in ARCHITECTURES)


def make_model(given: dict[str, Any], run: RunSettings, vocab_size: int | None = None) -> FrozenLM:
    """The model on its device: made in memory, drawn from its configuration, or loaded as a fit loads it.

    Args:
        given: Arguments of `LensTuning`.
        run: Whether the weights are drawn, and where the model runs.
        vocab_size: Vocabulary of a model of random weights; None: its own.

    Raises:
        InputError: The configuration or the weights cannot be had, no device has room, or the clock or the vocabulary
            does not go with the model.
    """
    model_id, revision, dtype = (given[key] for key in ("model_id", "revision", "dtype"))
    in_memory = _made_in_memory(model_id, run.random_weights)
    config = copy.deepcopy(ARCHITECTURES[model_id]) if in_memory else read_config(locate(model_id, revision))
    random = in_memory or run.random_weights
    if vocab_size is not None:
        if not random:
            raise InputError(f"The vocabulary of {model_id} is its own: give --random_weights to change it.")
        config.get_text_config(decoder=True).vocab_size = vocab_size
    device = choose_device(shape_of(config), measure_memory(), override=run.device).device
    if run.cpu_time and device.type != "cpu":
        raise InputError(f"--cpu_time says nothing of work on {device.type}: leave it out, or give --device cpu.")
    if random:
        torch.manual_seed(316)
        with torch.device(device), quiet():
            model = AutoModelForCausalLM.from_config(config, dtype=resolve_dtype(dtype, device, config))
        lm = FrozenLM.from_model(model, model_id=model_id)
    else:
        lm = FrozenLM.load(model_id, revision=revision, dtype=dtype, device=device)
    if given["compile"]:
        lm.compile_blocks()
    return lm


def make_data(settings: Settings, lm: FrozenLM) -> LensDataModule:
    """The data module with every `auto` settled as a fit settles it; nothing is read yet."""
    data = LensDataModule(**settings.data)
    data.settle(lm.vocab_size)
    if data.micro_batch_seqs == "auto":
        step = StepSize(
            rank=resolve_rank(settings.model["rank"], lm.d_model),
            seq_len=data.seq_len,
            positions_per_seq=int(data.positions_per_seq),
            loss_block_mib=settings.model["loss_block_mib"],
            step_seqs=int(data.effective_batch_seqs),
            fp32_unembed=settings.model["fp32_unembed"],
        )
        shape = shape_of(lm.model.config)
        choice = choose_device(shape, measure_memory(), override=lm.device.type, step=step, dtype=lm.dtype)
        data.micro_batch_seqs = choice.micro_batch_seqs
    if lm.context_length is not None and data.seq_len > lm.context_length:
        raise InputError(
            f"--data.seq_len {data.seq_len} is beyond the context of {lm.model_id}, {lm.context_length} tokens: "
            "choose at most that."
        )
    return data
