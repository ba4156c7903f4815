"""Plans a run before anything is loaded: device, dtype and batches, from the model's configuration alone."""

import os
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

import torch

from logos_pl.cli.device_options import check_processes, device_indices, num_nodes_of, world_size_of
from logos_pl.errors import InputError
from logos_pl.functional.budget import BatchPlan, plan_batching, total_steps
from logos_pl.functional.low_rank import resolve_rank
from logos_pl.functional.positions import position_bounds
from logos_pl.functional.schedules import SPEC_BATCH_SEQS, ScheduleName
from logos_pl.lm.config import context_length, read_config
from logos_pl.lm.devices import DeviceChoice, choose_device, measure_memory, memory_of_each
from logos_pl.lm.dtypes import DTYPES
from logos_pl.lm.memory import GIB, ModelShape, StepSize
from logos_pl.lm.model_shape import shape_in_memory
from logos_pl.lm.placed import plan_weights
from logos_pl.lm.sources import locate
from logos_pl.lm.weight_formats import refuse_placement
from logos_pl.settings.lens import TuningSettings
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.prism import PrismSettings
from logos_pl.settings.resolve import cpu_work, resolve_text, resolve_tuning
from logos_pl.settings.text import SampleTextSettings, TextSettings, TrainingTextSettings

READ_BYTES_PER_SECOND = 2e9
"""Read speed of an ordinary SSD, for estimating the speed of a streamed model."""

Model = TypeVar("Model", bound=ModelSettings)
Text = TypeVar("Text", bound=TextSettings)


class KnownModel(NamedTuple):
    """A model as its configuration describes it.

    Attributes:
        clean_name: Model name used in folder names.
        shape: Sizes of the model.
        context_length: Maximum number of tokens; None if unlimited.
        stored_dtype: Number format of its files according to its configuration; None if not stated.
        weights: What is read instead of plain weights, in words; None for plain weights.
    """

    clean_name: str
    shape: ModelShape
    context_length: int | None
    stored_dtype: torch.dtype | None = None
    weights: str | None = None

    @classmethod
    def read(cls, settings: ModelSettings) -> "KnownModel":
        """Read the configuration of a model.

        Raises:
            InputError: The model cannot be found or read.
        """
        source = locate(settings.model_id, settings.revision, settings.gguf)
        config = read_config(source)
        weights = plan_weights(source, config, settings.adapter)
        refuse_placement(source.model_id, weights.words(), settings.placement)
        stored = config.dtype if isinstance(config.dtype, torch.dtype) else None
        shape = shape_in_memory(config, weights.stored)
        return cls(settings.folder_name, shape, context_length(config), stored, weights.words())


class RunPlan(NamedTuple):
    """A run with every `auto` resolved.

    Attributes:
        model: Options of the model, and for a fit those of the lens.
        known: The model as its configuration describes it.
        choice: Device, dtype, micro-batch and estimated memory.
        devices: Argument `devices` of the Trainer.
        world_size: Number of processes.
        batching: Split of a step's sequences; None if nothing is trained.
        tokens: Tokens that are trained on; None if nothing is.
    """

    model: ModelSettings
    known: KnownModel
    choice: DeviceChoice
    devices: Any
    world_size: int
    batching: BatchPlan | None
    tokens: int | None = None

    def sentence(self) -> str:
        """The plan in one line."""
        shape, choice = self.known.shape, self.choice
        dtype = str(choice.dtype).removeprefix("torch.")
        model = f"{self.known.clean_name}: {shape.num_parameters / 1e6:,.1f}M parameters, {shape.num_blocks} blocks"
        needs = f"in {dtype} (about {choice.needed_bytes / GIB:.1f} GiB)"
        stored = choice.dtype if self.known.stored_dtype is None else self.known.stored_dtype
        outside = shape.outside_blocks or 0
        read = (shape.num_parameters - outside) * stored.itemsize
        if choice.shards is not None:
            own = read / choice.shards + outside * stored.itemsize
            return (
                f"{model}, in {choice.shards} shards on {choice.device.type} {needs[:-1]} each), of which "
                f"{own / GIB:.1f} GiB are read from its files"
            )
        if choice.group_tokens is None:
            what = "" if self.known.weights is None else f", {self.known.weights}"
            return f"{model}{what}, on {choice.device} {needs}"
        rate = choice.group_tokens * READ_BYTES_PER_SECOND / read
        time = "" if self.tokens is None else f", {_duration(self.tokens / rate)} for {self.tokens:,} tokens"
        return (
            f"{model}, streamed to {choice.device} {needs}: {read / GIB:.1f} GiB are read for every "
            f"{choice.group_tokens:,} tokens, so a disk of {READ_BYTES_PER_SECOND / 1e9:g} GB/s gives at most "
            f"{rate:,.0f} tokens/s{time}"
        )


def plan_prompts(model: ModelSettings, trainer: Any) -> RunPlan:
    """Plan a command that reads only prompts.

    Raises:
        InputError: The model is unknown or too large for every device.
    """
    known = KnownModel.read(model)
    step = StepSize(rank=0, loss_block_mib=model.loss_block_mib, fp32_unembed=model.fp32_unembed)
    return _planned(model, known, _place(model, known, trainer, step), trainer, None)


def plan_text(
    model: Model, text: Text, schedule: ScheduleName, trainer: Any, graph: bool = False
) -> tuple[RunPlan, Model, Text]:
    """Plan a command that reads packed text, and with `graph` runs backward passes; returns plan and options.

    Raises:
        InputError: The model is unknown or too large for every device, or options do not fit the model or each other.
    """
    known = KnownModel.read(model)
    shape = known.shape
    _check_blocks(model.model_id, shape.num_blocks)
    _check_sequences(model.model_id, text, known.context_length)
    if isinstance(model, TuningSettings):
        passes = text.passes if isinstance(text, TrainingTextSettings) else 1
        model = cast(Model, resolve_tuning(model, schedule, shape, passes))
    given, text = text, resolve_text(text, schedule, shape.vocab_size)
    choice = _place(model, known, trainer, _step_of(model, text, given, shape, trainer)._replace(graph=graph))
    if isinstance(model, TuningSettings) and choice.device.type == "cpu":
        less = resolve_text(given, schedule, shape.vocab_size, cpu_work(shape, int(model.layers_per_step)))
        if less != text:
            text = less
            choice = _place(model, known, trainer, _step_of(model, text, given, shape, trainer), named="cpu")
    world_size = world_size_of(trainer)
    batching, text = None, replace(text, micro_batch_seqs=choice.micro_batch_seqs)
    if given.val_seqs == "auto":
        text = replace(text, val_seqs=-(-int(text.val_seqs) // world_size) * world_size)  # as many for each process
    if isinstance(text, TrainingTextSettings):
        batching = plan_batching(int(text.effective_batch_seqs), world_size, choice.micro_batch_seqs)
        text = replace(text, micro_batch_seqs=batching.micro_batch_seqs, effective_batch_seqs=batching.sequences)
    plan = _planned(model, known, choice, trainer, batching)
    if isinstance(text, TrainingTextSettings):
        plan = plan._replace(tokens=int(text.tokens) * text.passes)
    return plan, cast(Model, plan.model), text


def _step_of(
    model: ModelSettings, text: TextSettings, given: TextSettings, shape: ModelShape, trainer: Any
) -> StepSize:
    """What determines the memory of a step.

    Args:
        model: Options of the model, and for a fit those of the lens, resolved.
        text: Options of the text, resolved.
        given: The same, with every `auto`.
        shape: The model's sizes.
        trainer: Options of the Trainer.

    Raises:
        InputError: The budget is too small for a step.
    """
    batch_seqs = SPEC_BATCH_SEQS
    if isinstance(text, TrainingTextSettings):
        batch_seqs = int(text.effective_batch_seqs)
        _check_budget(text)
    return StepSize(
        rank=int(model.rank) if isinstance(model, TuningSettings) else resolve_rank("auto", shape.d_model),
        seq_len=text.seq_len,
        positions_per_seq=int(text.positions_per_seq),
        loss_block_mib=model.loss_block_mib,
        step_seqs=max(1, batch_seqs // world_size_of(trainer)),
        micro_batch_seqs=None if given.micro_batch_seqs == "auto" else given.micro_batch_seqs,
        fp32_unembed=model.fp32_unembed,
    )


def _planned(
    model: ModelSettings, known: KnownModel, choice: DeviceChoice, trainer: Any, batching: BatchPlan | None
) -> RunPlan:
    dtype: Any = str(choice.dtype).removeprefix("torch.")
    devices = trainer.devices
    if devices == "auto":
        devices = 1 if choice.device.index is None else [choice.device.index]
    placed = replace(model, dtype=dtype, placement=choice.placement)
    if choice.group_tokens is not None:
        placed = replace(placed, group_tokens=choice.group_tokens)
    return RunPlan(placed, known, choice, devices, world_size_of(trainer), batching)


def _duration(seconds: float) -> str:
    """A duration in minutes or hours."""
    return f"{max(1, seconds / 60):.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def prism_budget(
    prism: PrismSettings, text: SampleTextSettings, schedule: ScheduleName, vocab_size: int, trainer: Any
) -> TrainingTextSettings:
    """Return the text options for the positions of a Prism fit, with one validation at the end.

    All positions in the range are used, since moments cost little compared with the forward pass.

    Raises:
        InputError: The range is empty.
    """
    resolved = resolve_text(text, schedule, vocab_size)
    first, last = position_bounds(text.seq_len, resolved.drawn_range)
    tokens = -(-prism.positions // (last - first + 1)) * text.seq_len
    together = world_size_of(trainer) * (1 if text.micro_batch_seqs == "auto" else text.micro_batch_seqs)
    batch_seqs = -(-SPEC_BATCH_SEQS // together) * together  # whole micro-batches of every process
    steps = total_steps(tokens, text.seq_len, batch_seqs)
    tokens = steps * text.seq_len * batch_seqs
    text = replace(text, val_seqs=resolved.val_seqs)  # candidates are compared on it, so it is not shortened
    return text.as_training(tokens=tokens, batch_seqs=batch_seqs, validate_every_steps=steps)


def _place(
    model: ModelSettings, known: KnownModel, trainer: Any, step: StepSize, named: str | None = None
) -> DeviceChoice:
    """Choose device, dtype and micro-batch, among all devices unless one is named here or in the Trainer's options."""
    world_size = world_size_of(trainer)
    each = world_size // num_nodes_of(trainer)  # on each machine
    named = named or {"auto": None, "gpu": "cuda"}.get(trainer.accelerator, trainer.accelerator)
    dtype = None if model.dtype == "auto" else DTYPES[model.dtype]
    cards = [] if named == "cpu" else device_indices(trainer)  # other GPUs are not considered
    shared = world_size > 1
    memory = memory_of_each(each, cards=[0] if cards is None else cards) if shared else measure_memory(cards)
    placement = model.placement
    if placement == "streamed" and world_size > 1:
        raise InputError(
            f"--model.placement streamed runs in one process, but --trainer.devices starts {world_size}: give one "
            "device, or --model.placement sharded."
        )
    if placement == "auto" and world_size > 1 and each == 1:
        placement = "resident"  # one process on each of several machines
    if placement == "auto" and known.weights is not None:
        placement = "resident"
    choice = choose_device(
        known.shape,
        memory,
        override=named,
        step=step,
        dtype=dtype,
        placement=placement,
        group_tokens=None if model.group_tokens == "auto" else model.group_tokens,
        processes=each,
    )
    if choice.device.type == "cpu":
        check_processes(each, os.cpu_count() or 1)
    return choice


def _check_blocks(model_id: str, num_blocks: int) -> None:
    if num_blocks < 2:
        raise InputError(
            f"{model_id} has {num_blocks} block, so no inner row for a lens to be fitted at: use a model with two or "
            "more blocks."
        )


def _check_sequences(model_id: str, text: TextSettings, longest: int | None) -> None:
    if longest is not None and text.seq_len > longest:
        raise InputError(
            f"--data.seq_len {text.seq_len} exceeds the context of {model_id}: give at most {longest} tokens."
        )


def _check_budget(text: TrainingTextSettings) -> None:
    tokens, batch_seqs = int(text.tokens), int(text.effective_batch_seqs)
    one_step = text.seq_len * batch_seqs
    if tokens < one_step:
        raise InputError(
            f"--data.tokens {tokens} is too few for one step of {batch_seqs} sequences of {text.seq_len} tokens: give "
            f"at least {one_step}, or smaller steps."
        )
