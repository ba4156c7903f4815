"""Command line of the benchmarks: the sections of a fit's configuration that affect the step, and what to measure."""

import copy
import time
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jsonargparse import ActionConfigFile, ArgumentParser
from transformers import AutoModelForCausalLM

from benchmarks.architectures import ARCHITECTURES, SMALL
from benchmarks.loss import LossSetting
from benchmarks.timing import Clock
from logos_pl.cli.command import SCHEDULE
from logos_pl.cli.configuration import as_yaml, read_configuration
from logos_pl.cli.run import KINDS, SECTIONS
from logos_pl.data.training_text import TrainingText
from logos_pl.errors import InputError
from logos_pl.functional.schedules import ScheduleName
from logos_pl.lm.config import read_config
from logos_pl.lm.devices import choose_device, measure_memory
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.loading import resolve_dtype
from logos_pl.lm.memory import StepSize
from logos_pl.lm.model_shape import shape_of
from logos_pl.lm.quiet import quiet
from logos_pl.lm.sources import locate
from logos_pl.settings.lens import TuningSettings
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.resolve import resolve_text, resolve_tuning
from logos_pl.settings.text import TrainingTextSettings

SMALL_VOCABULARIES = [8192, 32768]


class RunSettings(NamedTuple):
    """How to measure.

    Attributes:
        random_weights: Whether to use random weights instead of the model's.
        device: A device's name, or `auto`.
        repeats: Repeats of every measurement.
        cpu_time: Whether to measure CPU time of the process instead of wall-clock time.
        json: JSON file for the results.
    """

    random_weights: bool
    device: str
    repeats: int
    cpu_time: bool
    json: str | None

    @property
    def clock(self) -> Clock:
        """The clock used for timing."""
        return time.process_time if self.cpu_time else time.perf_counter


class Settings(NamedTuple):
    """Parsed command line.

    Attributes:
        run: How it is measured.
        schedule: Schedule that resolves `auto`.
        model: The frozen model, the lens and its training.
        data: The text and how it is read.
        tokenizer: Model whose tokenizer reads the text, and its revision.
        loss: Sizes on which the losses are compared.
        vocab_sizes: Vocabulary sizes at which the step is measured; None for the model's own.
    """

    run: RunSettings
    schedule: ScheduleName
    model: TuningSettings
    data: TrainingTextSettings
    tokenizer: tuple[str, str | None]
    loss: LossSetting
    vocab_sizes: list[int | None]


def parse(arguments: list[str] | None) -> Settings:
    """The settings.

    Raises:
        InputError: They are inconsistent.
    """
    given = _parser().parse_args(arguments)
    run, model = measured(given), TuningSettings(**given.model)
    data = TrainingTextSettings(**given.data, val_seqs=1)  # nothing is evaluated here; the minimum
    vocab_sizes = given.vocab_sizes
    if vocab_sizes is None:
        vocab_sizes = SMALL_VOCABULARIES if model.model_id == SMALL else [None]
    tokenizer = model.model_id, model.revision
    if _made_in_memory(model.model_id, run.random_weights):
        tokenizer = "demo", None
        if data.dataset == TrainingTextSettings.dataset:
            data = replace(data, dataset="demo")
    return Settings(run, given.schedule, model, data, tokenizer, LossSetting(**given.loss), vocab_sizes)


def measured(given: Any) -> RunSettings:
    """Options common to all benchmarks.

    Raises:
        InputError: There is nothing to measure.
    """
    if given.repeats < 1:
        raise InputError(f"--repeats is {given.repeats}: give 1 or more.")
    return RunSettings(given.random_weights, given.device, given.repeats, given.cpu_time, given.json)


class FitConfig(ActionConfigFile):
    """`--config FILE`: reads the options that a benchmark uses from a configuration and ignores others."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Read the file.

        Raises:
            InputError: It cannot be read as a configuration.
        """
        others = {name for kind in KINDS.values() for name in kind.accepts()} - set(parser.get_defaults().keys())
        content = {}
        for section, given in read_configuration(values, SECTIONS).items():
            if isinstance(given, dict):
                own = {option: value for option, value in given.items() if f"{section}.{option}" not in others}
                if own:
                    content[section] = own
            elif section not in others:
                content[section] = given
        self.apply_config(parser, cfg, self.dest, as_yaml(content))


def add_run_arguments(parser: ArgumentParser) -> None:
    """Add the options of every benchmark."""
    parser.add_argument("--config", action=FitConfig, help="configuration of a fit, such as configs/gpt2.yaml")
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
        help="vocabulary sizes at which to measure a random model; by default its own",
    )
    parser.add_argument("--schedule", **SCHEDULE._asdict())
    parser.add_class_arguments(TuningSettings, "model", instantiate=False, skip={"layers_per_step"})
    parser.add_class_arguments(TrainingTextSettings, "data", instantiate=False, skip={"val_seqs"})
    parser.add_class_arguments(LossSetting, "loss", instantiate=False)
    parser.set_defaults({"model.model_id": SMALL})
    return parser


def _made_in_memory(model_id: str, random_weights: bool) -> bool:
    return model_id == SMALL or (random_weights and model_id in ARCHITECTURES)


def make_model(given: ModelSettings, run: RunSettings, vocab_size: int | None = None) -> FrozenLM:
    """The model on its device: random, made from a built-in or its own configuration, or loaded as in a fit.

    Args:
        given: The frozen model.
        run: Whether to use random weights, and the device.
        vocab_size: Vocabulary size of a random model; None: its own.

    Raises:
        InputError: The configuration or the weights cannot be had, no device has room, or the clock or the vocabulary
            does not go with the model.
    """
    model_id, revision, dtype = given.model_id, given.revision, given.dtype
    in_memory = _made_in_memory(model_id, run.random_weights)
    config = copy.deepcopy(ARCHITECTURES[model_id]) if in_memory else read_config(locate(model_id, revision))
    random = in_memory or run.random_weights
    if vocab_size is not None:
        if not random:
            raise InputError(f"The vocabulary of {model_id} is its own: give --random_weights to change it.")
        config.get_text_config(decoder=True).vocab_size = vocab_size
    device = choose_device(shape_of(config), measure_memory(), override=run.device).device
    if run.cpu_time and device.type != "cpu":
        raise InputError(f"--cpu_time does not measure work on {device.type}: leave it out, or give --device cpu.")
    if random:
        torch.manual_seed(316)
        with torch.device(device), quiet():
            model = AutoModelForCausalLM.from_config(config, dtype=resolve_dtype(dtype, device, config))
        lm = FrozenLM.from_model(model, model_id=model_id)
    else:
        lm = FrozenLM.load(model_id, revision=revision, dtype=dtype, device=device)
    if given.compile:
        lm.compile_blocks()
    return lm


def make_tuning(settings: Settings, lm: FrozenLM) -> TuningSettings:
    """Training settings of a fit, with every `auto` resolved.

    Raises:
        InputError: It does not fit the model.
    """
    return resolve_tuning(settings.model, settings.schedule, shape_of(lm.model.config))


def make_data(settings: Settings, lm: FrozenLM) -> TrainingText:
    """Training text with every `auto` resolved as in a fit; nothing is read yet.

    Raises:
        InputError: It does not fit the model.
    """
    data = resolve_text(settings.data, settings.schedule, lm.vocab_size)
    if settings.data.micro_batch_seqs == "auto":
        step = StepSize(
            rank=int(make_tuning(settings, lm).rank),
            seq_len=data.seq_len,
            positions_per_seq=int(data.positions_per_seq),
            loss_block_mib=settings.model.loss_block_mib,
            step_seqs=int(data.effective_batch_seqs),
            fp32_unembed=settings.model.fp32_unembed,
        )
        shape = shape_of(lm.model.config)
        choice = choose_device(shape, measure_memory(), override=lm.device.type, step=step, dtype=lm.dtype)
        data = replace(data, micro_batch_seqs=choice.micro_batch_seqs)
    if lm.context_length is not None and data.seq_len > lm.context_length:
        raise InputError(
            f"--data.seq_len {data.seq_len} is beyond the context of {lm.model_id}, {lm.context_length} tokens: "
            "choose at most that."
        )
    return TrainingText(data, *settings.tokenizer)
