"""Loads the lenses of an evaluation: finds them before the model is loaded, and binds them to it afterwards."""

from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.agreement import gather, refuse_different, together
from logos_pl.data.evaluation_text import ValidationText
from logos_pl.errors import InputError
from logos_pl.io.terminal import say
from logos_pl.kinds.registry import evaluated, kind_of
from logos_pl.kinds.request import FoundLens, LensRequest, LoadedLens
from logos_pl.modules.base import LensModule
from logos_pl.modules.kl_table import print_kl_table
from logos_pl.modules.transfer_record import (
    measured,
    print_transfer,
    record_path,
    summary,
    text_of,
    with_record,
    write_record,
)


class LensLoader(Callback):
    """Loads lenses of all kinds, the same in every process, and prints the table of a validation.

    Args:
        requests: Requests by name of the kind, in the order of display.
        transfers: Folder of the records of lenses on models they were not fitted on.

    Attributes:
        found: Lenses found, by name of the kind; set by `setup`.
    """

    def __init__(self, requests: Mapping[str, LensRequest], transfers: Path = Path("lightning_logs/transfers")) -> None:
        self.requests, self.transfers = dict(requests), transfers
        self._records: dict[str, Path] = {}
        self.found: dict[str, FoundLens] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find every lens before the model is loaded.

        Raises:
            InputError: A given or required lens is missing or unusable.
            RunError: The disk or the Hub fails.
        """
        for name, request in self.requests.items():
            lens = _find(name, request)
            if gather(lens.there)[0]:  # the first process decides; another that cannot read the lens fails in `load`
                self.found[name] = lens
            if lens.sentence is not None and trainer.is_global_zero:
                say(lens.sentence)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the lenses."""
        self._put_in_place(trainer, pl_module, reads_text=set(self.requests))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the table."""
        assert isinstance(pl_module, LensModule)
        if trainer.is_global_zero:
            title = next(lens.title for lens in self.found.values() if lens.title is not None)
            print_kl_table(pl_module.validation, f"KL divergence in bits on held-out validation text, {title}:")
            self._record(pl_module, text_of(trainer.datamodule))  # type: ignore[attr-defined]

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the lenses; those without gates read no held-out text."""
        self._put_in_place(trainer, pl_module, reads_text=set(evaluated()))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the lenses."""
        self._put_in_place(trainer, pl_module, reads_text=set())
        assert isinstance(pl_module, LensModule)
        for name, transfer in pl_module.transfers.items():
            pl_module.transfers[name] = with_record(transfer, self._records[name])
            say(summary(pl_module.transfers[name]))

    def _record(self, module: LensModule, text: str) -> None:
        """Print and record the held-out KL of lenses that were fitted on another model."""
        for name, transfer in module.transfers.items():
            module.transfers[name] = measured(transfer, module.validation, name, text)
            print_transfer(module.transfers[name], name)
            write_record(self._records[name], module.transfers[name])

    def _put_in_place(self, trainer: Trainer, module: LightningModule, *, reads_text: set[str]) -> None:
        assert isinstance(module, LensModule)
        loaded = self._load(trainer, module, reads_text)
        refuse_different({f"the {kind_of(name).label}": lens.identity for name, lens in loaded.items()})
        for kind, lens in loaded.items():
            for name, part in lens.lenses.items():
                module.add_lens(name, part, lens.origin if name == kind else None)
            if lens.transfer is not None:
                module.transfers[kind] = lens.transfer
                self._records[kind] = record_path(self.transfers, kind, lens.identity, lens.transfer)
                if trainer.is_global_zero:
                    say(lens.transfer.sentence(kind_of(kind).label))
            if lens.sentence is not None and trainer.is_global_zero:
                say(lens.sentence)

    @together
    def _load(self, trainer: Trainer, module: LensModule, reads_text: set[str]) -> dict[str, LoadedLens]:
        """Load all lenses found, by kind.

        Raises:
            InputError: A lens is damaged or of another model, or would be evaluated on text that its fit did not hold
                out.
        """
        loaded = {name: lens.load(module.frozen, module.head) for name, lens in self.found.items()}
        for name, lens in loaded.items():
            if name in reads_text and lens.held_out_frac is not None:
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
