"""The registry of lens kinds: all that the rest of the program knows of a kind of lens."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from logos_pl.kinds.request import FoundLens, LensOptions, LensRequest

Command = Literal["validate", "test", "predict"]

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""Of a kind: it stands in file names, in columns of CSV files and in the style sheet of the page."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A lens that judged lenses are compared with, in words.

    Attributes:
        words: In a sentence: "the lens beats …".
        legend: In the legend of a plot: "over …".
    """

    words: str
    legend: str


def plain_origin(origin: Any) -> Any:
    """An origin as the sweep's document records it, unless its kind says otherwise: as a plain dictionary."""
    if dataclasses.is_dataclass(origin) and not isinstance(origin, type):
        return dataclasses.asdict(origin)
    return origin._asdict() if hasattr(origin, "_asdict") else origin


@dataclass(frozen=True, kw_only=True)
class LensSection:
    """What the sweep's JSON document says of a kind of lens, beside its gains over the norm lens.

    Attributes:
        key: The section's key in the document.
        origin_key: The key in it that says where the lens comes from.
        describe: What of an origin is recorded, as a dictionary or a dataclass; None: nothing is known.
        conclude: From the medians of its gains (`document_summaries.gain_summaries`), further keys with their values.
    """

    key: str
    origin_key: str = "origin"
    describe: Callable[[Any], Any] = plain_origin
    conclude: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda summaries: {}


@dataclass(frozen=True, kw_only=True)
class LensKind:
    """One kind of lens. A plain one that is read in sweeps gives `name`, `label`, `colour`, `first_row` and `find`.

    Attributes:
        name: In CSV and JSON files, tables, options and `sweep(lenses=…)`.
        label: In sentences: "the … is bound to another model".
        colour: In plots, by matplotlib's names.
        first_row: First row that it reads otherwise than the norm lens; None for the norm lens itself.
        find: Looks for the lens before the model is loaded. None: it is made without files, or comes with another's.
            May raise an InputError where a lens that is named or required is missing.
        swept: `predict` and `sweep()` read it.
        validated: `validate` reads it.
        judged: `test` reads it and passes a verdict on it.
        baseline: In words, where judged lenses are compared with it.
        needed_by: Commands that refuse to go on without it.
        options: Where the command line says which one to read.
        file_suffix: What its CSV files are told from the norm lens's by; left out: its name.
        section: What the sweep's document says of it; left out: origin and gains, under `<name>_lens`.
        accepted: From what `section` records of its origin, whether it has passed the gates, None before they were
            measured. Summaries go by a lens that has. None: its origin records no verdict.
        page_colours: On the page, light and dark, as in CSS; left out: `colour`.
        dash: Dash pattern of its curve on the page, as in SVG; empty: a solid line.
    """

    name: str
    label: str
    colour: str
    first_row: int | None
    find: Callable[[LensRequest], FoundLens] | None = None
    swept: bool = True
    validated: bool = False
    judged: bool = False
    baseline: Baseline | None = None
    needed_by: frozenset[Command] = frozenset()
    options: LensOptions = field(default_factory=LensOptions)
    file_suffix: str = ""
    section: LensSection = field(default_factory=lambda: LensSection(key=""))
    accepted: Callable[[Any], bool | None] | None = None
    page_colours: tuple[str, str] | None = None
    dash: str = ""

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"A kind of lens must be named in lower-case letters (got {self.name!r}).")
        if self.first_row is None:
            return
        if not self.file_suffix:
            object.__setattr__(self, "file_suffix", f"-{self.name}")
        if not self.section.key:
            object.__setattr__(self, "section", dataclasses.replace(self.section, key=f"{self.name}_lens"))

    @property
    def compared(self) -> bool:
        """Whether a sweep reads it and sums up its gains over the norm lens."""
        return self.swept and self.first_row is not None

    def is_read_by(self, command: str) -> bool:
        """Whether a command looks for a lens of this kind."""
        reads = {"predict": self.swept, "validate": self.validated, "test": self.judged}
        return self.find is not None and reads.get(command, False)


_KINDS: dict[str, LensKind] = {}


def register(kind: LensKind) -> LensKind:
    """Add a kind, to be shown after those that are there.

    Raises:
        ValueError: There is one of this name.
    """
    if kind.name in _KINDS:
        raise ValueError(f"There is a kind of lens named {kind.name} already.")
    _KINDS[kind.name] = kind
    return kind


def unregister(name: str) -> None:
    """Take a kind out again."""
    del _KINDS[name]


def kinds() -> tuple[LensKind, ...]:
    """All kinds, in the order in which they are shown."""
    return tuple(_KINDS.values())


def kind_of(name: str) -> LensKind:
    """The kind of a name.

    Raises:
        KeyError: There is none.
    """
    return _KINDS[name]


def swept() -> tuple[str, ...]:
    """Names of the lenses that a sweep reads, where they are there."""
    return tuple(kind.name for kind in kinds() if kind.swept)


def compared() -> tuple[LensKind, ...]:
    """Kinds whose gains over the norm lens a sweep sums up."""
    return tuple(kind for kind in kinds() if kind.compared)


def judged() -> tuple[str, ...]:
    """Names of the lenses that a test passes a verdict on."""
    return tuple(kind.name for kind in kinds() if kind.judged)


def baselines() -> dict[str, Baseline]:
    """What judged lenses are compared with, by name."""
    return {kind.name: kind.baseline for kind in kinds() if kind.baseline is not None}
