"""Registry of lens kinds, through which all other modules access them."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from logos_pl.kinds.request import FoundLens, LensOptions, LensRequest

Command = Literal["validate", "test", "predict"]

NAME = re.compile(r"[a-z][a-z0-9_]*")
"""Valid names of a kind, which are used in file names, CSV columns and CSS."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """Names of a lens that serves as a baseline in the gates.

    Attributes:
        words: Name in a sentence: "the lens beats …".
        legend: Name in the legend of a plot: "over …".
    """

    words: str
    legend: str


def plain_origin(origin: Any) -> Any:
    """Default conversion of an origin for the sweep's document: a plain dictionary."""
    if dataclasses.is_dataclass(origin) and not isinstance(origin, type):
        return dataclasses.asdict(origin)
    return origin._asdict() if hasattr(origin, "_asdict") else origin


@dataclass(frozen=True, kw_only=True)
class LensSection:
    """Section of a lens kind in the sweep's JSON document, in addition to its gains over the norm lens.

    Attributes:
        key: Key of the section.
        origin_key: Key of the origin within the section.
        describe: Converts an origin to a dictionary or a dataclass; returns None if nothing is known.
        conclude: Returns further keys from the median gains (`document_summaries.gain_summaries`).
    """

    key: str
    origin_key: str = "origin"
    describe: Callable[[Any], Any] = plain_origin
    conclude: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda summaries: {}


@dataclass(frozen=True, kw_only=True)
class LensKind:
    """A kind of lens. Minimal for sweeps: `name`, `label`, `colour`, `first_row` and `find`.

    Attributes:
        name: Name in CSV and JSON files, tables, options and `sweep(lenses=…)`.
        label: Name in sentences: "the … is bound to another model".
        colour: Colour in plots, a matplotlib name.
        first_row: First row at which it differs from the norm lens; None for the norm lens itself.
        find: Finds the lens before the model is loaded; may raise InputError for a given or required lens that is
            missing. None: the lens needs no files, or is loaded with another.
        swept: Whether `predict` and `sweep()` use it.
        validated: Whether `validate` uses it.
        evaluated: Whether `test` evaluates it against the gates; of other lenses that are swept, it reads only unspoken
            intermediates.
        baseline: Its names as a baseline of the gates; None if it is not one.
        needed_by: Commands that fail without it.
        options: Command-line options that select the lens.
        file_suffix: Suffix of its CSV files; default: its name.
        section: Its section in the sweep's document; default: origin and gains, under `<name>_lens`.
        accepted: Returns from the recorded origin whether the lens has passed the gates, or None if not evaluated;
            such a lens is preferred in summaries. None: the origin records no verdict.
        page_colours: Light and dark CSS colours on the page; default: `colour`.
        dash: SVG dash pattern of its curve on the page; empty: solid line.
    """

    name: str
    label: str
    colour: str
    first_row: int | None
    find: Callable[[LensRequest], FoundLens] | None = None
    swept: bool = True
    validated: bool = False
    evaluated: bool = False
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
        """Whether a sweep uses it and summarises its gains over the norm lens."""
        return self.swept and self.first_row is not None

    def is_read_by(self, command: str) -> bool:
        """Whether a command uses lenses of this kind."""
        reads = {
            "predict": self.swept,
            "validate": self.validated,
            "test": self.evaluated or self.swept,
            "compare": self.find is not None,
        }
        return self.find is not None and reads.get(command, False)


_KINDS: dict[str, LensKind] = {}


def register(kind: LensKind) -> LensKind:
    """Register a kind, displayed after the existing ones.

    Raises:
        ValueError: The name is already registered.
    """
    if kind.name in _KINDS:
        raise ValueError(f"There is a kind of lens named {kind.name} already.")
    _KINDS[kind.name] = kind
    return kind


def unregister(name: str) -> None:
    """Remove a kind."""
    del _KINDS[name]


def kinds() -> tuple[LensKind, ...]:
    """All kinds in the order of display."""
    return tuple(_KINDS.values())


def kind_of(name: str) -> LensKind:
    """Return the kind with a name.

    Raises:
        KeyError: The name is not registered.
    """
    return _KINDS[name]


def swept() -> tuple[str, ...]:
    """Names of the lenses that a sweep uses if available."""
    return tuple(kind.name for kind in kinds() if kind.swept)


def compared() -> tuple[LensKind, ...]:
    """Kinds whose gains over the norm lens a sweep summarises."""
    return tuple(kind for kind in kinds() if kind.compared)


def evaluated() -> tuple[str, ...]:
    """Names of the lenses that a test evaluates against the gates."""
    return tuple(kind.name for kind in kinds() if kind.evaluated)


def baselines() -> dict[str, Baseline]:
    """Baselines of the gates, by name."""
    return {kind.name: kind.baseline for kind in kinds() if kind.baseline is not None}
