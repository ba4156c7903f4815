"""Weights of a tuned lens as a plain state dict, and as the bytes of ``weights.pt`` or ``bias_only.pt``."""

import io
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from logos_pl.artifacts.provenance_schema import Capacity, Temperature
from logos_pl.artifacts.torch_files import load_torch_file
from logos_pl.errors import InputError
from logos_pl.lenses.translator import Translators

Weights = dict[str, Tensor]


def weights_of(translators: Translators) -> Weights:
    """Contiguous copies in fp32 on the CPU; copies, because a view would be saved with its whole storage.

    The translators must be in the plain basis, which the file uses: call `in_plain_basis` first.
    """
    assert translators.basis is None
    return {
        name: tensor.detach().to(device="cpu", dtype=torch.float32, copy=True).contiguous()
        for name, tensor in translators.state_dict().items()
    }


def capacity_of(translators: Translators) -> Capacity:
    """Rank, number of rows and number of values of the translators."""
    numbers = sum(tensor.numel() for tensor in translators.state_dict().values())
    return Capacity(rank_k=translators.rank, rows=translators.num_rows, parameters=numbers)


def temperature_of(translators: Translators, enabled: bool) -> Temperature:
    """Provenance record of the temperatures: τ of rows 1, 2, … and whether they were learned."""
    with torch.no_grad():
        tau = 1.0 / translators.inv_tau().cpu().double()
    return Temperature(enabled=enabled, tau=tau.tolist())


def translators_of(weights: Weights) -> Translators:
    """Translators with these weights, which must have been checked."""
    rows, d_model, rank = weights["U"].shape
    translators = Translators(rows, d_model, rank)
    translators.load_state_dict(weights)
    return translators


def check_weights(weights: Weights, capacity: Capacity, owner: str = "lens") -> None:
    """Check that the weights are finite fp32 tensors of the recorded rank and number of rows.

    Args:
        weights: The state dict.
        capacity: Recorded size.
        owner: Kind of lens, for the message.

    Raises:
        InputError: Naming the tensor, what it is and what it should be.
    """
    rows, rank = capacity.rows, capacity.rank_k
    width = weights["c"].shape[-1] if "c" in weights and weights["c"].ndim > 0 else 0
    wanted = {"U": (rows, width, rank), "V": (rows, width, rank), "c": (rows, width), "log_tau": (rows,)}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(wanted.keys() | shapes.keys()):
        if shapes.get(name) != wanted.get(name):
            raise InputError(
                f"The {owner}'s tensor {name} has shape {shapes.get(name)}, but a {owner} of {rows} rows, width "
                f"{width} and rank {rank}, as its provenance records, has {wanted.get(name)}: "
                "fetch it again, or fit anew."
            )
    _refuse_bad_numbers(weights, owner)
    numbers = sum(tensor.numel() for tensor in weights.values())
    if numbers != capacity.parameters:
        raise InputError(
            f"The {owner} has {numbers} parameters, but its provenance records {capacity.parameters}: "
            "fetch the artifact again, or fit anew."
        )


def encode(weights: Mapping[str, Any]) -> memoryview:
    """Bytes of a file of ``torch.save``."""
    buffer = io.BytesIO()
    torch.save(weights, buffer)
    return buffer.getbuffer()


def decode(data: bytes, name: str = "weights.pt") -> Weights:
    """State dict from the bytes of a weights' file; no code in it is executed.

    Args:
        data: The bytes.
        name: The file's name, for the message.

    Raises:
        InputError: They are not a plain dictionary of tensors.
    """
    wanted, remedy = "a state dict of tensors only", "fetch the artifact from a source you trust"
    weights = load_torch_file(io.BytesIO(data), name, wanted, remedy)
    if not isinstance(weights, dict):
        raise InputError(f"{name} is not {wanted}: {remedy}.")
    # Calls dict's own method, since a pickled OrderedDict may have an attribute of this name.
    items = dict(dict.items(weights))
    for key, tensor in items.items():
        if type(key) is not str or not isinstance(tensor, Tensor):
            raise InputError(f"{name} is not {wanted}: it holds {type(tensor).__name__} at {key!r}: {remedy}.")
    return items


def _refuse_bad_numbers(weights: Weights, owner: str) -> None:
    for name, tensor in weights.items():
        if tensor.dtype != torch.float32:
            raise InputError(
                f"The {owner}'s tensor {name} is {tensor.dtype}, but must be torch.float32: fit the lens anew."
            )
        broken = int((~torch.isfinite(tensor)).sum())
        if broken:
            raise InputError(
                f"The {owner}'s tensor {name} holds {broken} numbers that are NaN or infinite: "
                "fit again with a lower learning rate."
            )
