"""Model, device and batches of a run, decided before anything is loaded: only the model's configuration is read."""

from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

from logos_pl.errors import InputError
from logos_pl.functional.budget import BatchPlan, plan_batching, total_steps
from logos_pl.functional.low_rank import resolve_rank
from logos_pl.functional.positions import position_bounds
from logos_pl.functional.schedules import SPEC_BATCH_SEQS, ScheduleName
from logos_pl.lm.config import context_length, read_config
from logos_pl.lm.devices import DeviceChoice, choose_device, measure_memory, memory_of_each
from logos_pl.lm.dtypes import DTYPES
from logos_pl.lm.memory import GIB, ModelShape, StepSize
from logos_pl.lm.model_shape import shape_of
from logos_pl.lm.sources import clean_name, locate
from logos_pl.settings.lens import TuningSettings
from logos_pl.settings.model import ModelSettings
from logos_pl.settings.prism import PrismSettings
from logos_pl.settings.resolve import resolve_text, resolve_tuning
from logos_pl.settings.text import PrismTextSettings, TextSettings, TrainingTextSettings

MOST_DEVICES = 1024
"""Of one machine; a larger number is a slip."""

Model = TypeVar("Model", bound=ModelSettings)
Text = TypeVar("Text", bound=TextSettings)


class KnownModel(NamedTuple):
    """What a model's configuration says.

    Attributes:
        clean_name: Name of the folders that a run writes to.
        shape: Sizes of the model.
        context_length: The most tokens that it takes; None where nothing bounds them.
    """

    clean_name: str
    shape: ModelShape
    context_length: int | None

    @classmethod
    def read(cls, settings: ModelSettings) -> "KnownModel":
        """Read it.

        Raises:
            InputError: The model cannot be found or read.
        """
        source = locate(settings.model_id, settings.revision)
        config = read_config(source)
        return cls(clean_name(source.model_id), shape_of(config), context_length(config))


class RunPlan(NamedTuple):
    """A run with every `auto` resolved.

    Attributes:
        model: Options of the model, and in a fit of the lens.
        known: What the model's configuration says.
        choice: Device, number format, micro-batch and estimated memory.
        devices: What the Trainer takes for `devices`.
        world_size: Processes.
        batching: How a step's sequences are split; None where nothing is trained.
    """

    model: ModelSettings
    known: KnownModel
    choice: DeviceChoice
    devices: Any
    world_size: int
    batching: BatchPlan | None

    def sentence(self) -> str:
        """The plan in one line, for the user."""
        shape, dtype = self.known.shape, str(self.choice.dtype).removeprefix("torch.")
        return (
            f"{self.known.clean_name}: {shape.num_parameters / 1e6:,.1f}M parameters, {shape.num_blocks} "
            f"blocks, on {self.choice.device} in {dtype} (about {self.choice.needed_bytes / GIB:.1f} GiB)"
        )


def plan_prompts(model: ModelSettings, trainer: Any) -> RunPlan:
    """The plan of a command that reads prompts alone.

    Raises:
        InputError: The model is unknown or fits nowhere.
    """
    known = KnownModel.read(model)
    step = StepSize(rank=0, loss_block_mib=model.loss_block_mib, fp32_unembed=model.fp32_unembed)
    return _planned(model, known, _place(model, known.shape, trainer, step), trainer, None)


def plan_text(model: Model, text: Text, schedule: ScheduleName, trainer: Any) -> tuple[RunPlan, Model, Text]:
    """The plan of a command that reads packed text, and its options with every `auto` resolved.

    Raises:
        InputError: The model is unknown or fits nowhere, or the options do not fit the model or each other.
    """
    known = KnownModel.read(model)
    shape = known.shape
    _check_blocks(model.model_id, shape.num_blocks)
    _check_sequences(model.model_id, text, known.context_length)
    asked_micro = text.micro_batch_seqs
    text = resolve_text(text, schedule, shape.vocab_size)
    rank = resolve_rank("auto", shape.d_model)
    if isinstance(model, TuningSettings):
        tuning = resolve_tuning(model, schedule, shape)
        model, rank = cast(Model, tuning), int(tuning.rank)
    batch_seqs = SPEC_BATCH_SEQS
    if isinstance(text, TrainingTextSettings):
        batch_seqs = int(text.effective_batch_seqs)
        _check_budget(text)
    world_size = _world_size(trainer)
    step = StepSize(
        rank=rank,
        seq_len=text.seq_len,
        positions_per_seq=int(text.positions_per_seq),
        loss_block_mib=model.loss_block_mib,
        step_seqs=max(1, batch_seqs // world_size),
        micro_batch_seqs=None if asked_micro == "auto" else asked_micro,
        fp32_unembed=model.fp32_unembed,
    )
    choice = _place(model, shape, trainer, step)
    batching, text = None, replace(text, micro_batch_seqs=choice.micro_batch_seqs)
    if isinstance(text, TrainingTextSettings):
        batching = plan_batching(batch_seqs, world_size, choice.micro_batch_seqs)
        text = replace(text, micro_batch_seqs=batching.micro_batch_seqs, effective_batch_seqs=batching.sequences)
    plan = _planned(model, known, choice, trainer, batching)
    return plan, cast(Model, plan.model), text


def _planned(
    model: ModelSettings, known: KnownModel, choice: DeviceChoice, trainer: Any, batching: BatchPlan | None
) -> RunPlan:
    dtype: Any = str(choice.dtype).removeprefix("torch.")
    devices = trainer.devices
    if devices == "auto":
        devices = 1 if choice.device.index is None else [choice.device.index]
    return RunPlan(replace(model, dtype=dtype), known, choice, devices, _world_size(trainer), batching)


def prism_budget(
    prism: PrismSettings, text: PrismTextSettings, schedule: ScheduleName, vocab_size: int, trainer: Any
) -> TrainingTextSettings:
    """The text that a prism's positions need, validated once, at its end.

    Every position within the range is used: their moments cost little beside the forward pass.

    Raises:
        InputError: The range holds no position.
    """
    resolved = resolve_text(text, schedule, vocab_size)
    first, last = position_bounds(text.seq_len, resolved.drawn_range)
    tokens = -(-prism.positions // (last - first + 1)) * text.seq_len
    together = _world_size(trainer) * (1 if text.micro_batch_seqs == "auto" else text.micro_batch_seqs)
    batch_seqs = -(-SPEC_BATCH_SEQS // together) * together  # whole micro-batches of every process
    steps = total_steps(tokens, text.seq_len, batch_seqs)
    return text.as_training(tokens=steps * text.seq_len * batch_seqs, batch_seqs=batch_seqs, validate_every_steps=steps)


def _place(model: ModelSettings, shape: ModelShape, trainer: Any, step: StepSize) -> DeviceChoice:
    """Device, number format and micro-batch."""
    world_size = _world_size(trainer)
    named = {"auto": None, "gpu": "cuda"}.get(trainer.accelerator, trainer.accelerator)
    dtype = None if model.dtype == "auto" else DTYPES[model.dtype]
    cards = [] if named == "cpu" else _devices(trainer)  # others are left alone
    if world_size == 1:
        memory = measure_memory(cards)
    else:
        memory = memory_of_each(world_size // _num_nodes(trainer), cards=[0] if cards is None else cards)
    return choose_device(shape, memory, override=named, step=step, dtype=dtype)


def _check_blocks(model_id: str, num_blocks: int) -> None:
    if num_blocks < 2:
        raise InputError(
            f"{model_id} has {num_blocks} block, hence no row between the first and the last to put a lens on: use a "
            "model with two blocks or more."
        )


def _check_sequences(model_id: str, text: TextSettings, longest: int | None) -> None:
    if longest is not None and text.seq_len > longest:
        raise InputError(
            f"--data.seq_len {text.seq_len} is beyond the context of {model_id}, {longest} tokens: choose at most that."
        )


def _check_budget(text: TrainingTextSettings) -> None:
    tokens, batch_seqs = int(text.tokens), int(text.effective_batch_seqs)
    one_step = text.seq_len * batch_seqs
    if tokens < one_step:
        raise InputError(
            f"--data.tokens {tokens} is too few for one step of {batch_seqs} sequences of {text.seq_len} tokens: give "
            f"at least {one_step}, or smaller steps."
        )


def _world_size(trainer: Any) -> int:
    """Processes that `--trainer.devices` and `--trainer.num_nodes` ask for.

    Raises:
        InputError: `devices` is neither a number from 1 on, nor a list of devices, nor `auto`.
    """
    devices = _devices(trainer)
    return (1 if devices is None else len(devices)) * _num_nodes(trainer)


def _num_nodes(trainer: Any) -> int:
    """Machines of the run; one where the command does not ask."""
    return int(getattr(trainer, "num_nodes", 1))


def _devices(trainer: Any) -> list[int] | None:
    """The devices of one machine that `--trainer.devices` asks for, as Lightning takes them; None for `auto`.

    Raises:
        InputError: It is neither a number from 1 on, nor a list of devices, nor `auto`.
    """
    devices = trainer.devices
    if devices == "auto":
        return None
    if isinstance(devices, str) and ("," in devices or devices.startswith("[")):
        devices = [part.strip() for part in devices.strip("[]").split(",") if part.strip()]
    count = int(devices) if str(devices).isdigit() else 0
    listed = devices if isinstance(devices, list) else range(count if count <= MOST_DEVICES else 0)
    if not listed or not all(str(device).isdigit() for device in listed):
        raise InputError(
            f"--trainer.devices {trainer.devices} is not understood: give a number from 1 on, or devices, such as 0,1."
        )
    return [int(device) for device in listed]
