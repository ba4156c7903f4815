"""What `auto` comes to before anything is loaded: the device, the batches, the steps, the positions."""

from typing import Any, NamedTuple

from logos_pl.errors import InputError
from logos_pl.functional.budget import BatchPlan, plan_batching, total_steps
from logos_pl.functional.low_rank import resolve_rank
from logos_pl.functional.positions import position_bounds
from logos_pl.functional.schedules import SCHEDULES, SPEC_BATCH_SEQS, scheduled_batch, scheduled_positions
from logos_pl.lm.config import context_length, read_config
from logos_pl.lm.devices import DeviceChoice, choose_device, measure_memory, memory_of_each
from logos_pl.lm.dtypes import DTYPES
from logos_pl.lm.memory import GIB, ModelShape, StepSize
from logos_pl.lm.model_shape import shape_of
from logos_pl.lm.sources import clean_name, locate

MOST_DEVICES = 1024
"""Of one machine; a larger number is a slip."""


class RunPlan(NamedTuple):
    """A run with every `auto` settled.

    Attributes:
        model_id: the model as the user names it.
        clean_model_name: name of the folders the run writes to.
        shape: sizes of the model.
        choice: device, number format, micro-batch and estimated memory.
        batching: how a step's sequences are split.
        steps: optimiser steps the token budget buys.
        tokens: the token budget.
    """

    model_id: str
    clean_model_name: str
    shape: ModelShape
    choice: DeviceChoice
    batching: BatchPlan
    steps: int
    tokens: int

    def settle(self, config: Any) -> None:
        """Write the plan into a subcommand's configuration."""
        device = self.choice.device
        config.trainer.accelerator = device.type
        if config.trainer.devices == "auto":
            config.trainer.devices = 1 if device.index is None else [device.index]
        config.model.dtype = str(self.choice.dtype).removeprefix("torch.")
        config.data.effective_batch_seqs = self.batching.sequences
        config.data.micro_batch_seqs = self.batching.micro_batch_seqs
        config.data.tokens = self.tokens

    def sentence(self) -> str:
        """The plan in one line, for the user."""
        dtype = str(self.choice.dtype).removeprefix("torch.")
        return (
            f"{self.clean_model_name}: {self.shape.num_parameters / 1e6:,.1f}M parameters, {self.shape.num_blocks} "
            f"blocks, on {self.choice.device} in {dtype} (about {self.choice.needed_bytes / GIB:.1f} GiB)"
        )


def plan_run(config: Any, reads_text: bool = True) -> RunPlan:
    """The plan for a subcommand's configuration; reads the model's configuration and no weights.

    Args:
        config: the subcommand's configuration.
        reads_text: packed text is read, so its settings have to fit the model.

    Raises:
        InputError: the model is unknown or fits nowhere, or the data settings do not fit the model or each other.
    """
    source = locate(config.model.model_id, config.model.revision)
    model_config = read_config(source)
    shape, data = shape_of(model_config), config.data
    tokens = SCHEDULES[config.schedule].tokens if data.tokens == "auto" else data.tokens
    batch_seqs = data.effective_batch_seqs
    if batch_seqs == "auto":
        batch_seqs = scheduled_batch(config.schedule, tokens, data.seq_len)
    if reads_text:
        _check_blocks(config.model.model_id, shape.num_blocks)
        _check_sequences(config.model.model_id, data.seq_len, batch_seqs, tokens, context_length(model_config))
    world_size, positions = _world_size(config.trainer), data.positions_per_seq
    if positions == "auto":
        positions, _ = scheduled_positions(config.schedule, shape.vocab_size, data.seq_len, batch_seqs)
    choice = _place(config, shape, positions, batch_seqs, world_size)
    return RunPlan(
        config.model.model_id,
        clean_name(source.model_id),
        shape,
        choice,
        plan_batching(batch_seqs, world_size, choice.micro_batch_seqs),
        total_steps(tokens, data.seq_len, batch_seqs),
        tokens,
    )


def resolve_prism_budget(config: Any) -> None:
    """Set the text that a prism's positions need, in one interval, into a subcommand's configuration.

    Every position within the range is used: their moments cost little beside the forward pass.

    Raises:
        InputError: there are no positions to read, or the range holds none.
    """
    data, positions = config.data, config.prism.positions
    if positions < 1:
        raise InputError(f"--prism.positions {positions} is no number of positions: give 100,000 or more.")
    vocab_size = shape_of(read_config(locate(config.model.model_id, config.model.revision))).vocab_size
    if data.effective_batch_seqs == "auto":
        data.effective_batch_seqs = SPEC_BATCH_SEQS
    scheduled = scheduled_positions(config.schedule, vocab_size, data.seq_len, data.effective_batch_seqs)[1]
    first, last = position_bounds(data.seq_len, scheduled if data.position_range == "auto" else data.position_range)
    data.tokens = -(-positions // (last - first + 1)) * data.seq_len
    steps = total_steps(data.tokens, data.seq_len, data.effective_batch_seqs)
    data.tokens = steps * data.seq_len * data.effective_batch_seqs
    data.validate_every_steps = steps


def _place(config: Any, shape: ModelShape, positions_per_seq: int, batch_seqs: int, world_size: int) -> DeviceChoice:
    """Device, number format and micro-batch."""
    data, micro = config.data, config.data.micro_batch_seqs
    step = StepSize(
        rank=resolve_rank(config.model.rank, shape.d_model),
        seq_len=data.seq_len,
        positions_per_seq=positions_per_seq,
        loss_block_mib=config.model.loss_block_mib,
        step_seqs=max(1, batch_seqs // world_size),
        micro_batch_seqs=None if micro == "auto" else micro,
        fp32_unembed=config.model.fp32_unembed,
    )
    named = {"auto": None, "gpu": "cuda"}.get(config.trainer.accelerator, config.trainer.accelerator)
    dtype = None if config.model.dtype == "auto" else DTYPES[config.model.dtype]
    cards = [] if named == "cpu" else _devices(config.trainer)  # others are left alone
    if world_size == 1:
        memory = measure_memory(cards)
    else:
        memory = memory_of_each(world_size // config.trainer.num_nodes, cards=[0] if cards is None else cards)
    return choose_device(shape, memory, override=named, step=step, dtype=dtype)


def _check_blocks(model_id: str, num_blocks: int) -> None:
    if num_blocks < 2:
        raise InputError(
            f"{model_id} has {num_blocks} block, hence no row between the first and the last to put a lens on: use a "
            "model with two blocks or more."
        )


def _check_sequences(model_id: str, seq_len: int, batch_seqs: int, tokens: int, longest: int | None) -> None:
    if longest is not None and seq_len > longest:
        raise InputError(
            f"--data.seq_len {seq_len} is beyond the context of {model_id}, {longest} tokens: choose at most that."
        )
    one_step = seq_len * batch_seqs
    if tokens < one_step:
        raise InputError(
            f"--data.tokens {tokens} is too few for one step of {batch_seqs} sequences of {seq_len} tokens: give at "
            f"least {one_step}, or smaller steps."
        )


def _world_size(trainer: Any) -> int:
    """Processes that `--trainer.devices` and `--trainer.num_nodes` ask for.

    Raises:
        InputError: `devices` is neither a number from 1 on, nor a list of devices, nor `auto`.
    """
    devices = _devices(trainer)
    return (1 if devices is None else len(devices)) * trainer.num_nodes


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
