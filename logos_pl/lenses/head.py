"""The frozen head in fp32: the norm of each row, the projection, the unembedding, and their hash.

``project(normalise(h, rows))`` is the input of the lens loss; ``logits(x)`` applies everything after the norm.
"""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear

from logos_pl.errors import InputError
from logos_pl.functional.row_index import row_index
from logos_pl.functional.unembedding import Unembedding, unembed
from logos_pl.lm.anatomy import Anatomy
from logos_pl.lm.dtypes import Fp32Unembed, unembedding_dtype
from logos_pl.lm.norms import NormWeights, identity_norm, norm_weights

DecodingNorm = Literal["final", "next"]
# Values widened to fp32 at a time while hashing: 64 MiB.
HASH_CHUNK = 2**24


class Head:
    """The head of one model, applied to any row; never trained, and not a module.

    Args:
        anatomy: The parts of the model; their tensors are shared wherever no cast or move is needed.
        decoding_norm: ``final``: the model's final norm at every row; ``next``: the next norm that reads the row.
        fp32_unembed: Whether the unembedding is held in fp32; ``auto``: except for large half-precision heads on CUDA.

    Raises:
        InputError: ``next`` is given but no norm reads the rows, or the value is unknown.
    """

    def __init__(
        self, anatomy: Anatomy, decoding_norm: DecodingNorm = "final", fp32_unembed: Fp32Unembed = "auto"
    ) -> None:
        self.anatomy = anatomy
        self.decoding_norm = decoding_norm
        self.num_rows = anatomy.num_blocks + 1
        self.final = _weights_of(anatomy, anatomy.final_norm)
        self._norms = RowNorms(_row_norms(anatomy, decoding_norm, self.final))
        self._fp32_unembed: Fp32Unembed = fp32_unembed
        self._digest: str | None = None
        self._place(anatomy.lm_head.weight.device)

    def to(self, device: torch.device | str) -> "Head":
        """The same head with its tensors on ``device``."""
        if torch.device(device) != self.device:
            self._place(torch.device(device))
        return self

    def decoding_with(self, decoding_norm: DecodingNorm) -> "Head":
        """The same head with another decoding norm; unembedding and projection are shared, not copied.

        Raises:
            InputError: ``next`` is given but no norm reads the rows.
        """
        other = copy.copy(self)
        other.decoding_norm = decoding_norm
        other._norms = RowNorms(_row_norms(self.anatomy, decoding_norm, self.final))
        other._norms.to(self.device)
        return other

    def normalise(
        self, h: Float[Tensor, "rows pos d_model"], rows: Sequence[int] | Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows pos d_model"]:
        """Residuals after the decoding norm, in fp32; ``rows`` says which row each slice of ``h`` is."""
        return self._norms(h.to(self.device), rows)

    def project(self, x: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_head"]:
        """Normalised residuals after the projection in front of the unembedding; unchanged if there is none."""
        return x if self.projection is None else linear(x, *self.projection)

    def project_shift(self, shift: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead d_head"]:
        """``project(x + shift) − project(x)``: the projection without its bias."""
        return shift if self.projection is None else linear(shift, self.projection[0])

    def final_x(self, h: Float[Tensor, "rows pos d_model"]) -> Float[Tensor, "pos d_head"]:
        """The unembedding's input at row n, which gives the model's final distribution in losses and readings.

        Args:
            h: Residuals of any rows, the last of which is row n.
        """
        return self.project(self.normalise(h[-1:], [self.num_rows - 1]))[0]

    def logits(self, x: Float[Tensor, "*lead d_model"]) -> Float[Tensor, "*lead vocab"]:
        """Logits in fp32 of normalised (not yet projected) residuals: bias, scale and soft-cap included."""
        return unembed(self.project(x), self.unembedding)

    def sha256(self) -> str:
        """Hash of final norm, projection, unembedding, bias and constants, over their values in fp32.

        The same for every dtype that a model was loaded in, as long as the cast from the checkpoint was lossless.
        """
        if self._digest is None:
            self._digest = _digest(self.anatomy, self.final)
        return self._digest

    def _place(self, device: torch.device) -> None:
        anatomy = self.anatomy
        weight = anatomy.lm_head.weight.detach()
        dtype = unembedding_dtype(device, weight.shape[0], weight.dtype, self._fp32_unembed)
        bias = anatomy.lm_head.bias
        self.device = device
        self.unembedding = Unembedding(
            weight.to(device=device, dtype=dtype),
            None if bias is None else bias.detach().to(device=device, dtype=torch.float32),
            # The divisor of the unembedding's input is a scale of the logits, since there is no bias.
            anatomy.logit_multiplier / (anatomy.logit_divisor * anatomy.head_divisor),
            anatomy.softcap,
        )
        self.projection: tuple[Tensor, Tensor | None] | None = None
        if anatomy.project is not None:
            parts = (anatomy.project.weight, anatomy.project.bias)
            w, b = (None if p is None else p.detach().to(device=device, dtype=torch.float32) for p in parts)
            assert w is not None
            self.projection = (w, b)
        self._norms.to(device)


class RowNorms:
    """The norms of all rows as stacked tensors, applied to many rows in one batched step.

    Args:
        norms: One norm per row 0 … n, or a single one that serves them all.
    """

    def __init__(self, norms: list[NormWeights]) -> None:
        self.shared = len(norms) == 1
        zeros = torch.zeros_like(norms[0].gamma)
        self.gamma = torch.stack([norm.gamma for norm in norms])[:, None]
        self.beta: Tensor | None = None
        if any(norm.beta is not None for norm in norms):
            self.beta = torch.stack([zeros if norm.beta is None else norm.beta for norm in norms])[:, None]
        self.eps = torch.tensor([norm.eps for norm in norms], dtype=torch.float32)[:, None, None]
        self.centred = torch.tensor([norm.kind == "layer" for norm in norms])[:, None, None]
        self.plain = torch.tensor([norm.kind == "identity" for norm in norms])[:, None, None]
        self.any_centred = bool(self.centred.any())
        self.any_plain = bool(self.plain.any())

    def to(self, device: torch.device) -> None:
        """Move the stacks."""
        self.gamma, self.eps = self.gamma.to(device), self.eps.to(device)
        self.centred, self.plain = self.centred.to(device), self.plain.to(device)
        self.beta = None if self.beta is None else self.beta.to(device)

    def __call__(
        self, h: Float[Tensor, "rows pos d_model"], rows: Sequence[int] | Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows pos d_model"]:
        """``h`` normalised in fp32, each slice by its row's norm."""
        x = h.float()
        index = self._index(rows)
        centred = x
        if self.any_centred:
            mean = x.mean(dim=-1, keepdim=True)
            centred = x - torch.where(self.centred[index], mean, torch.zeros_like(mean))
        root = torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + self.eps[index])
        out = centred * root * self.gamma[index]
        if self.beta is not None:
            out = out + self.beta[index]
        return torch.where(self.plain[index], x, out) if self.any_plain else out

    def _index(self, rows: Sequence[int] | Tensor) -> Tensor | slice:
        if self.shared:
            return slice(0, 1)
        return rows.to(self.gamma.device) if isinstance(rows, Tensor) else row_index(rows, self.gamma.device)


def _weights_of(anatomy: Anatomy, module: torch.nn.Module | None) -> NormWeights:
    return identity_norm(anatomy.d_model) if module is None else norm_weights(module, anatomy.d_model)


def _row_norms(anatomy: Anatomy, decoding_norm: str, final: NormWeights) -> list[NormWeights]:
    if decoding_norm == "final":
        return [final]
    if decoding_norm != "next":
        raise InputError(f"decoding_norm is {decoding_norm!r}, but must be `final` or `next`.")
    if anatomy.next_norms is None:
        raise InputError(
            f"decoding_norm `next` is not defined for {anatomy.architecture}: none of its norms reads the residual "
            "stream between blocks; use `final`."
        )
    return [*(norm_weights(module, anatomy.d_model) for module in anatomy.next_norms), final]


def _digest(anatomy: Anatomy, final: NormWeights) -> str:
    project = anatomy.project
    named = {
        "final_norm.gamma": final.gamma,
        "final_norm.beta": final.beta,
        "project.weight": None if project is None else project.weight,
        "project.bias": None if project is None else project.bias,
        "unembedding.weight": anatomy.lm_head.weight,
        "unembedding.bias": anatomy.lm_head.bias,
    }
    constants: tuple[object, ...] = (
        final.kind, final.eps, anatomy.logit_multiplier, anatomy.logit_divisor, anatomy.softcap
    )  # fmt: skip
    if anatomy.head_divisor != 1.0:  # without a divisor, the hash equals that of earlier versions
        constants = (*constants, anatomy.head_divisor)
    digest = hashlib.sha256(repr(constants).encode())
    for name, tensor in named.items():
        digest.update(f"{name} {None if tensor is None else tuple(tensor.shape)}\n".encode())
        for piece in () if tensor is None else _fp32_bytes(tensor):
            digest.update(piece)
    return digest.hexdigest()


def _fp32_bytes(tensor: Tensor) -> Iterator[bytes]:
    """The values of a tensor as little-endian fp32, in pieces, so that no second full copy is made."""
    flat = tensor.detach().reshape(-1)
    for start in range(0, flat.numel(), HASH_CHUNK):
        piece = flat[start : start + HASH_CHUNK].to(device="cpu", dtype=torch.float32)
        yield piece.numpy().astype("<f4", copy=False).tobytes()
