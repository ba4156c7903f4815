"""Options of a tuned lens and of its training."""

from dataclasses import dataclass
from typing import Literal

from logos_pl.bounds import check_number
from logos_pl.functional.schedules import Anneal, Init
from logos_pl.settings.model import ModelSettings


@dataclass(frozen=True, kw_only=True)
class LensSettings:
    """Parameters of a tuned lens and their initialisation.

    Args:
        rank: rank of each translator; `auto`: width / 32, clamped to 64…256; 0: bias and temperature only.
        init: initialisation of the translators: `closed_form` (reduced-rank regression on the first 1% of the text) or
            `random`; `auto`: as the schedule says.
        layers_per_step: number of rows trained in each step, or `all`; `auto`: as the schedule says.
        precond: basis in which U and V are trained. `auto`: whitened by the statistics of the closed-form start (plain
            basis with `random` initialisation); `off`: plain basis. The artifact always stores the plain basis.
        temperature: train a temperature for each row.
        bias_only: also fit a bias-only lens, the baseline of the gates. It does not change the tuned lens. It adds
            about 20% to a step on the demo, 12% at the size of GPT-2, and less on larger models. Skipped at rank 0.

    Raises:
        InputError: A number is out of its bounds.
    """

    rank: int | Literal["auto"] = "auto"
    init: Init | Literal["auto"] = "auto"
    layers_per_step: int | Literal["auto", "all"] = "auto"
    precond: Literal["auto", "off"] = "auto"
    temperature: bool = True
    bias_only: bool = True

    def __post_init__(self) -> None:
        if self.rank != "auto":
            check_number("--model.rank", self.rank, at_least=0)
        if self.layers_per_step not in ("auto", "all"):
            check_number("--model.layers_per_step", self.layers_per_step, at_least=1)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class OptimSettings:
    """Optimiser and regularisation of a tuned lens.

    Args:
        lr: peak learning rate of AdamW; `auto`: as the schedule says.
        anneal: how training converges: `average` keeps the learning rate constant after warm-up and exports a running
            average of the weights; `cosine` decays the learning rate to 0; `auto`: as the schedule says.
        betas: beta1 and beta2 of AdamW.
        weight_decay: decoupled weight decay of AdamW, applied to U and V.
        l2: weight of the penalty ‖U‖² + ‖V‖² + ‖c‖², summed over rows, in the basis used for training; `auto`: as the
            schedule says.
        smoothness: weight of the penalty on squared differences of U and V between neighbouring rows, in the basis
            used for training; `auto`: as the schedule says.

    Raises:
        InputError: A number is out of its bounds.
    """

    lr: float | Literal["auto"] = "auto"
    anneal: Anneal | Literal["auto"] = "auto"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-4
    l2: float | Literal["auto"] = "auto"
    smoothness: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        for name in ("weight_decay", "l2", "smoothness"):
            if getattr(self, name) != "auto":
                check_number(f"--model.{name}", getattr(self, name), at_least=0)
        for beta in self.betas:
            check_number("--model.betas", beta, at_least=0, below=1)
        if self.lr != "auto":
            check_number("--model.lr", self.lr, above=0)


@dataclass(frozen=True, kw_only=True)
class TuningSettings(OptimSettings, LensSettings, ModelSettings):
    """Model, lens and training."""

    def __post_init__(self) -> None:
        for part in (ModelSettings, LensSettings, OptimSettings):
            part.__post_init__(self)
