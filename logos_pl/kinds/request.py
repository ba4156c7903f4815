"""A lens asked for on the command line, found before the model is loaded, and read once the model is there."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens
from logos_pl.lm.frozen import FrozenLM

Use = Literal["auto", "require", "off"]
"""Read it where there is one, refuse to go on without it, or leave it."""


@dataclass(frozen=True)
class LensRequest:
    """What a command asks of one kind of lens.

    Attributes:
        model_id: Hub id or folder name of the model.
        clean_model_name: The id's last part, which folders are named after.
        use: `auto`: read it where there is one; `require`: refuse to go on without.
        source: The lens that the user names: a folder, an id on the Hub, or a checkpoint; None where none is named.
        revision: Release, branch or commit on the Hub.
        folder: Where the lenses of this kind that were fitted here are; None where none are.
        fit_command: The command that fits one for this model, as the user would type it.
    """

    model_id: str
    clean_model_name: str
    _: KW_ONLY
    use: Literal["auto", "require"] = "auto"
    source: str | None = None
    revision: str | None = None
    folder: Path | None = None
    fit_command: str = ""


class LoadedLens(NamedTuple):
    """A lens bound to the model.

    Attributes:
        lenses: By name: the kind's own, and those that come with it.
        origin: Where it comes from; None where that is not recorded.
        held_out_frac: Share of the documents that its fit held out; None where that is not known.
        identity: What tells it from another lens, in every process of a run.
        sentence: What the user is told.
    """

    lenses: dict[str, Lens]
    origin: object = None
    held_out_frac: float | None = None
    identity: str = ""
    sentence: str | None = None


class FoundLens(NamedTuple):
    """What was found of a lens before the model was loaded.

    Attributes:
        load: Reads it, binds it to the model's head and checks it against the model.
        there: Whether there is one; the first process of a run decides, and `load` refuses in one that has none.
        sentence: What the user is told; None: nothing.
        title: What it is called above a table.
    """

    load: Callable[[FrozenLM, Head], LoadedLens]
    there: bool = True
    sentence: str | None = None
    title: str | None = None


@dataclass(frozen=True, kw_only=True)
class LensOptions:
    """Where the command line says which lens of a kind to read: options by their dotted names.

    Attributes:
        source: The first of them that is given names the lens; without any, `lens.sources.<name>` does.
        revision: Its revision on the Hub.
        use: `auto`, `require` or `off` in a sweep.
        folder: The folder of all lenses of this kind that are fitted here, each in a subfolder named after its model.
        fit_command: The subcommand that fits one.
    """

    source: tuple[str, ...] = ()
    revision: str | None = None
    use: str | None = None
    folder: str | None = None
    fit_command: str | None = None
