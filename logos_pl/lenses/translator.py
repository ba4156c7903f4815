"""The trained part of a tuned lens: one low-rank affine map and one temperature per inner row, stacked."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import softplus

from logos_pl.functional.closed_form import AffineStart
from logos_pl.functional.low_rank import apply_low_rank, check_rank, shared_draw
from logos_pl.functional.training_basis import TrainingBasis, into_basis, out_of_basis

_TAU_FLOOR = 1e-3
# Of the fp32 numbers around log(expm1(1 − 1e-3)), the one that gives exactly τ = 1 in fp32.
_LOG_TAU_OF_ONE = 0.53974247


class Translators(nn.Module):
    """``x + (x U) Vᵀ + c`` and ``τ = softplus(log_tau) + 1e-3`` for rows 1 … num_rows, row L at index L − 1.

    Initialised to the identity with τ = 1: V and c are zero. U is not, since otherwise neither U nor V would ever
    receive a gradient; it is the same random draw at every row, so that the smoothness penalty starts at zero.
    Source: docs/method.md §2.

    Args:
        num_rows: Rows with a translator: all but the first and the last.
        d_model: Width of the residual stream.
        rank: Rank of each map; 0 leaves bias and temperature only.
        seed: Seed of U.

    Attributes:
        basis: Basis of U and V during training, ``x + (x W_L U)(W_R V)ᵀ + c``; None: the plain basis. It is neither a
            parameter nor a buffer: never trained, and never sent between processes.

    Raises:
        InputError: If ``rank`` does not fit ``d_model``.
    """

    def __init__(self, num_rows: int, d_model: int, rank: int, *, seed: int = 316) -> None:
        super().__init__()
        self.basis: TrainingBasis | None = None
        self.num_rows, self.d_model, self.rank = num_rows, d_model, check_rank(rank, d_model)
        self.U = nn.Parameter(torch.empty(num_rows, d_model, rank))
        self.V = nn.Parameter(torch.zeros(num_rows, d_model, rank))
        self.c = nn.Parameter(torch.zeros(num_rows, d_model))
        self.log_tau = nn.Parameter(torch.full((num_rows,), _LOG_TAU_OF_ONE))
        with torch.no_grad():
            self.U.copy_(shared_draw(num_rows, d_model, rank, seed))

    @torch.no_grad()
    def start_at(self, start: AffineStart, basis: TrainingBasis | None = None) -> None:
        """Initialise with given maps and temperatures; τ stays 1 if temperatures are not trained.

        Args:
            start: The maps, in the plain basis.
            basis: The basis to train them in; None: the plain one.
        """
        self.basis = None if basis is None else basis.to(self.U.device)
        U, V = (start.U, start.V) if basis is None else into_basis(start.U, start.V, basis)
        self.U.copy_(U)
        self.V.copy_(V)
        self.c.copy_(start.c)
        if self.log_tau.requires_grad:
            self.log_tau.copy_(torch.log(torch.expm1(start.tau - _TAU_FLOOR)))

    @torch.no_grad()
    def in_plain_basis(self) -> "Translators":
        """The same translators on the CPU, with U and V in the plain basis; converted in fp64."""
        plain = Translators(self.num_rows, self.d_model, self.rank)
        plain.load_state_dict(self.state_dict())
        if self.basis is not None:
            U, V = out_of_basis(plain.U.double(), plain.V.double(), self.basis.to(plain.U.device))
            plain.U.copy_(U)
            plain.V.copy_(V)
        return plain

    def forward(
        self, x: Float[Tensor, "rows pos d_model"], index: Int[Tensor, "rows"] | None = None
    ) -> Float[Tensor, "rows pos d_model"]:
        """Translated residuals, never in mixed precision.

        Args:
            x: Normed residuals in fp32.
            index: Translator for each slice of ``x`` (row − 1); None: all of them in order.
        """
        with torch.autocast(x.device.type, enabled=False):
            U, V, c = (self._take(t, index) for t in (self.U, self.V, self.c))
            U, V = (U, V) if self.basis is None else out_of_basis(U, V, self.basis)
            return apply_low_rank(x, U, V, c)

    def bias(self, index: Int[Tensor, "rows"] | None = None) -> Float[Tensor, "rows d_model"]:
        """The c of the translators at ``index`` (row − 1), or of all of them."""
        return self._take(self.c, index)

    def inv_tau(self, index: Int[Tensor, "rows"] | None = None) -> Float[Tensor, "rows"]:
        """1/τ of the translators at ``index`` (row − 1), or of all of them."""
        return 1.0 / (softplus(self._take(self.log_tau, index)) + _TAU_FLOOR)

    def penalty(self) -> Float[Tensor, ""]:
        """‖U‖² + ‖V‖² + ‖c‖², summed over rows."""
        return self.U.square().sum() + self.V.square().sum() + self.c.square().sum()

    def smoothness(self) -> Float[Tensor, ""]:
        """‖U_{L+1} − U_L‖² + ‖V_{L+1} − V_L‖², summed over neighbouring rows."""
        return self.U.diff(dim=0).square().sum() + self.V.diff(dim=0).square().sum()

    @staticmethod
    def _take(stacked: Tensor, index: Tensor | None) -> Tensor:
        # index_select refuses negative indices, so that row 0 cannot select the last translator.
        return stacked if index is None else stacked.index_select(0, index)
