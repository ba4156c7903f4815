"""Loading a model where it fits: device, number format and placement chosen by memory."""

from typing import Literal

import torch

from logos_pl.lm.config import read_config
from logos_pl.lm.devices import Placement, choose_device, measure_memory
from logos_pl.lm.dtypes import DTYPES
from logos_pl.lm.frozen import DEFAULT_GROUP_TOKENS, FrozenLM
from logos_pl.lm.memory import StepSize
from logos_pl.lm.model_shape import shape_in_memory
from logos_pl.lm.placed import plan_weights
from logos_pl.lm.sources import locate


def load_model(
    model_id: str,
    *,
    revision: str | None = None,
    gguf: str | None = None,
    adapter: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str = "auto",
    placement: Placement | Literal["auto"] = "auto",
    group_tokens: int | None = None,
) -> FrozenLM:
    """Load a frozen model with its tokenizer, and check that its head is exact.

    Args:
        model_id: Hub id of a causal language model, which may name a revision as ``id@revision``, its local folder, or
            ``demo`` for the bundled model.
        revision: Branch, tag or commit on the Hub.
        gguf: Name of a GGUF file in the folder or repository; not needed for a folder that holds nothing else.
        adapter: Folder or Hub id (``org/name@revision``) of an adapter of peft, which is merged into the weights.
        dtype: ``float32``, ``bfloat16`` or ``float16``; ``auto``: chosen by model and device.
        device: Device name; ``auto``: the first of cuda, mps and cpu with enough memory for the model.
        placement: ``resident``: in memory; ``streamed``: blocks are read from disk for each group of micro-batches;
            ``auto``: resident if the model fits, else streamed.
        group_tokens: Tokens of such a group; None: chosen by memory.

    Raises:
        InputError: The model cannot be found or read, is not supported or does not fit, or there is no such device.
    """
    source = locate(model_id, revision, gguf)
    config = read_config(source)
    weights = plan_weights(source, config, adapter)
    if weights.words() is not None and placement == "auto":
        placement = "resident"
    choice = choose_device(
        shape_in_memory(config, weights.stored),
        measure_memory(),
        override=device,
        step=StepSize(rank=0),
        dtype=dtype if isinstance(dtype, torch.dtype) else DTYPES.get(dtype),
        placement=placement,
        group_tokens=group_tokens,
    )
    return FrozenLM.load(
        model_id,
        revision=revision,
        gguf=gguf,
        adapter=adapter,
        dtype=choice.dtype if dtype == "auto" else dtype,
        device=choice.device,
        placement=choice.placement,
        group_tokens=choice.group_tokens or DEFAULT_GROUP_TOKENS,
    )
