"""Options of a tuned lens and of its training."""

from dataclasses import dataclass
from typing import Literal

from logos_pl.bounds import check_number
from logos_pl.functional.schedules import Anneal, Init
from logos_pl.settings.model import ModelSettings


@dataclass(frozen=True, kw_only=True)
class LensSettings:
    """What a tuned lens is made of, and where its training starts.

    Args:
        rank: rank of each translator; `auto`: width / 32 within 64 to 256; 0: bias and temperature only.
        init: how the translators start: in `closed_form`, by least squares on the first 1% of the text, or `random`;
            `auto`: the schedule's.
        layers_per_step: rows trained in each step; `all`: every row; `auto`: the schedule's.
        precond: basis that U and V are trained in: `auto`, one that is whitened by what the closed-form start has read,
            or at a random start the plain one; `off`, the plain one. The artifact holds them in the plain basis.
        temperature: learn a temperature for each row.
        bias_only: fit a bias-only lens beside the tuned one, which the gates compare with; it changes nothing in the
            tuned lens, and costs about a fifth of a step on the demo, an eighth at the sizes of GPT-2, and less the
            larger the model. Not fitted at rank 0, where the lens itself is one.

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
    """How a tuned lens is trained.

    Args:
        lr: peak learning rate of AdamW; `auto`: the schedule's.
        anneal: how the noise of the last steps is taken out: `average`, a constant learning rate after the warm-up, and
            the lens is a running average of the weights; `cosine`, a cosine of the learning rate to 0; `auto`: the
            schedule's.
        betas: AdamW's decay rates of the moments.
        weight_decay: AdamW's decoupled weight decay, of U and V.
        l2: weight of ‖U‖² + ‖V‖² + ‖c‖², summed over rows, in the basis that U and V are trained in; `auto`: the
            schedule's.
        smoothness: weight of the squared differences of U and V between neighbouring rows, summed, in the same basis;
            `auto`: the schedule's.

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
    """The frozen model, the lens and its training: the `model` options of a fit."""

    def __post_init__(self) -> None:
        for part in (ModelSettings, LensSettings, OptimSettings):
            part.__post_init__(self)
