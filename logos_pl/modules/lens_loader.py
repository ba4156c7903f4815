"""The lenses of an evaluation, of whatever kind: found before the model is loaded, read once it is there."""

from collections.abc import Mapping

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.agreement import gather, refuse_different, together
from logos_pl.data.evaluation_text import ValidationText
from logos_pl.errors import InputError
from logos_pl.io.terminal import say
from logos_pl.kinds.registry import kind_of
from logos_pl.kinds.request import FoundLens, LensRequest, LoadedLens
from logos_pl.modules.base import LensModule
from logos_pl.modules.kl_table import print_kl_table


class LensLoader(Callback):
    """Puts lenses of all kinds beside the norm lens, the same ones in every process; prints the table of a validation.

    Args:
        requests: What is asked for, by the name of the kind, in the order in which lenses are shown.

    Attributes:
        found: What there is, by the name of the kind; known from `setup` on.
    """

    def __init__(self, requests: Mapping[str, LensRequest]) -> None:
        self.requests = dict(requests)
        self.found: dict[str, FoundLens] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look for every lens before the model is loaded.

        Raises:
            InputError: One that is named or required is missing, or cannot be used.
            RunError: The disk or the Hub fails.
        """
        for name, request in self.requests.items():
            lens = _find(name, request)
            if gather(lens.there)[0]:  # the first process decides; one that cannot read the lens refuses later
                self.found[name] = lens
            if lens.sentence is not None and trainer.is_global_zero:
                say(lens.sentence)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the lenses in place."""
        self._put_in_place(trainer, pl_module, reads_text=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        assert isinstance(pl_module, LensModule)
        if trainer.is_global_zero:
            title = next(lens.title for lens in self.found.values() if lens.title is not None)
            print_kl_table(pl_module.validation, f"KL divergence in bits on held-out validation text, {title}:")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the lenses in place."""
        self._put_in_place(trainer, pl_module, reads_text=True)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the lenses in place."""
        self._put_in_place(trainer, pl_module, reads_text=False)

    def _put_in_place(self, trainer: Trainer, module: LightningModule, *, reads_text: bool) -> None:
        assert isinstance(module, LensModule)
        loaded = self._load(trainer, module, reads_text)
        refuse_different({f"the {kind_of(name).label}": lens.identity for name, lens in loaded.items()})
        for kind, lens in loaded.items():
            for name, part in lens.lenses.items():
                module.add_lens(name, part, lens.origin if name == kind else None)
            if lens.sentence is not None and trainer.is_global_zero:
                say(lens.sentence)

    @together
    def _load(self, trainer: Trainer, module: LensModule, reads_text: bool) -> dict[str, LoadedLens]:
        """All lenses that were found, by kind.

        Raises:
            InputError: One of them is damaged or is another model's, or the run would judge it on text that its fit
                has not held out.
        """
        loaded = {name: lens.load(module.frozen, module.head) for name, lens in self.found.items()}
        for lens in loaded.values():
            if reads_text and lens.held_out_frac is not None:
                data: ValidationText = trainer.datamodule  # type: ignore[attr-defined]
                data.refuse_other_share(lens.held_out_frac)
        return loaded


@together
def _find(name: str, request: LensRequest) -> FoundLens:
    find = kind_of(name).find
    assert find is not None
    lens = find(request)
    if request.use == "require" and not lens.there:
        raise InputError(lens.sentence or f"There is no {kind_of(name).label} for {request.model_id}.")
    return lens
