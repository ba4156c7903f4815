"""The two lenses of a comparison: how they are named, found and bound to the model."""

import dataclasses
import os
from collections.abc import Mapping
from typing import NamedTuple

from lightning.pytorch import Callback, LightningModule, Trainer

from logos_pl.compare.module import CompareModule, PairOrigin
from logos_pl.data.evaluation_text import ValidationText
from logos_pl.errors import InputError
from logos_pl.io.terminal import say
from logos_pl.kinds.registry import LensKind, kind_of, kinds
from logos_pl.kinds.request import FoundLens, LensRequest
from logos_pl.lenses.norm import Lens
from logos_pl.modules.base import LensModule

SIDES = ("a", "b")

LOADED_WITH = {"bias": "tuned"}
"""Kinds that are loaded together with another."""


class LensGiven(NamedTuple):
    """A lens as the user gives it.

    Attributes:
        name: Name of its kind.
        source: Its location; None: the default location of its kind.
    """

    name: str
    source: str | None

    @property
    def label(self) -> str:
        """Name in tables and plots: the kind and its source."""
        return self.name if self.source is None else f"{self.name} {_shown(self.source)}"


def parse_lens(given: str) -> LensGiven:
    """Read `KIND`, `KIND=SOURCE`, or `SOURCE` of a tuned lens.

    Raises:
        InputError: There is no such kind and no such file or folder.
    """
    names = [kind.name for kind in kinds() if kind.find is not None or kind.name in ("norm", *LOADED_WITH)]
    if given in names:
        return LensGiven(given, None)
    name, equals, source = given.partition("=")
    if equals and name in names and name != "norm" and source:
        return LensGiven(name, source)
    if os.path.lexists(given) or "/" in given:
        return LensGiven("tuned", given)
    raise InputError(
        f"There is no lens {given[:100]!r}: give one of {', '.join(names)}, one of them with its location, as "
        "prism=FOLDER, or the folder, checkpoint or repository of a tuned lens."
    )


class PairLoader(Callback):
    """Loads the lenses of a comparison: two, or one that is compared over revisions.

    Args:
        given: The lenses.
        requests: Requests by name of the kind, with the folders and options of the command.
    """

    def __init__(self, given: tuple[LensGiven, ...], requests: Mapping[str, LensRequest]) -> None:
        self.given, self.requests = given, requests
        self.found: list[FoundLens | None] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the lenses before the model is loaded.

        Raises:
            InputError: A lens is missing or unusable, or both are the same.
            RunError: The disk or the Hub fails.
        """
        places = [(given.name, self._place(given)) for given in self.given]
        if len(places) > 1 and places[0] == places[1]:
            raise _one_lens(self.given)
        self.found = [self._find(given) for given in self.given]

    def _request(self, given: LensGiven) -> LensRequest:
        request = self.requests[LOADED_WITH.get(given.name, given.name)]
        return dataclasses.replace(request, use="require", source=given.source or request.source)

    def _place(self, given: LensGiven) -> str | None:
        """Canonical location of a lens; None for the norm lens."""
        if given.name == "norm":
            return None
        request = self._request(given)
        place = str(request.folder) if request.source is None else request.source
        return os.path.realpath(place) if os.path.lexists(place) else place

    def _find(self, given: LensGiven) -> FoundLens | None:
        if given.name == "norm":
            return None
        kind, request = kind_of(LOADED_WITH.get(given.name, given.name)), self._request(given)
        assert kind.find is not None
        found = kind.find(request)
        if not found.there:
            raise InputError(found.sentence or _missing(kind, request))
        if found.sentence is not None:
            say(found.sentence)
        return found

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load the lenses.

        Raises:
            InputError: A lens is damaged or of another model, its fit held out other text, or both are the same.
        """
        assert isinstance(pl_module, CompareModule)
        data: ValidationText = trainer.datamodule  # type: ignore[attr-defined]
        for side, given, found in zip(SIDES, self.given, self.found, strict=False):
            pl_module.take(side, *self._load(pl_module, data, given, found))
        loaded = [(origin.kind, origin.identity) for origin in pl_module.pair_origins.values()]
        if len(loaded) > 1 and loaded[0] == loaded[1]:
            raise _one_lens(self.given)

    def _load(
        self, module: LensModule, data: ValidationText, given: LensGiven, found: FoundLens | None
    ) -> tuple[Lens, PairOrigin]:
        if found is None:
            return module.lenses["norm"], PairOrigin(given.label, "norm", None, "the model's head", None, None)
        loaded = found.load(module.frozen, module.head)
        if given.name not in loaded.lenses:
            raise InputError(f"The lens of {given.label!r} was fitted without a bias-only lens: compare another.")
        if loaded.held_out_frac is not None:
            data.refuse_other_share(loaded.held_out_frac)
        if loaded.transfer is not None:
            say(loaded.transfer.sentence(kind_of(LOADED_WITH.get(given.name, given.name)).label))
        dataset = getattr(loaded.origin, "dataset", None)
        return loaded.lenses[given.name], PairOrigin(
            label=given.label,
            kind=given.name,
            source=None if given.source is None else _shown(given.source),
            identity=loaded.identity,
            text=None if dataset is None else dataset.sample_description,
            text_sha256=None if dataset is None else dataset.content_hash,
            transfer=None if loaded.transfer is None else loaded.transfer.to_plain(),
        )


def _one_lens(given: tuple[LensGiven, ...]) -> InputError:
    a, b = given
    return InputError(f"{a.label} and {b.label} are the same lens: give two that differ.")


def _missing(kind: LensKind, request: LensRequest) -> str:
    return f"There is no {kind.label} for {request.model_id}: give its location, as {kind.name}=SOURCE."


def _shown(source: str) -> str:
    """A folder by its relative path, anything else as given."""
    return os.path.relpath(source) if os.path.lexists(source) else source
