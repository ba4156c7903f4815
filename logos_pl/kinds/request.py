"""Request for a lens, and its result before and after the model is loaded."""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from logos_pl.artifacts.transfer import Transfer
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens
from logos_pl.lm.frozen import FrozenLM

Use = Literal["auto", "require", "off"]
"""`auto`: use the lens if available; `require`: fail without it; `off`: do not use it."""


@dataclass(frozen=True)
class LensRequest:
    """Request of a command for one kind of lens.

    Attributes:
        model_id: Hub id or folder name of the model.
        clean_model_name: Last part of the id, used in folder names.
        use: `auto`: use the lens if available; `require`: fail without it.
        source: Lens given by the user: a folder, a Hub id or a checkpoint; None if not given.
        revision: Release, branch or commit on the Hub.
        folder: Folder of locally fitted lenses of this kind; None if there is none.
        fit_command: Command line that fits one for this model, for messages.
        transfer: Accept a lens of another model of the same shape, and measure how far this model is from that one.
    """

    model_id: str
    clean_model_name: str
    _: KW_ONLY
    use: Literal["auto", "require"] = "auto"
    source: str | None = None
    revision: str | None = None
    folder: Path | None = None
    fit_command: str = ""
    transfer: bool = False


class LoadedLens(NamedTuple):
    """A lens bound to the model.

    Attributes:
        lenses: The lens and those loaded with it, by name.
        origin: Origin of the lens; None if not recorded.
        held_out_frac: Held-out fraction of its fit; None if unknown.
        identity: Value that identifies the lens, compared over processes.
        sentence: Sentence for the user.
        transfer: How far the model is from the one the lens was fitted on; None if it is the same.
    """

    lenses: dict[str, Lens]
    origin: object = None
    held_out_frac: float | None = None
    identity: str = ""
    sentence: str | None = None
    transfer: Transfer | None = None


class FoundLens(NamedTuple):
    """Result of the search for a lens before the model is loaded.

    Attributes:
        load: Loads the lens, checks it against the model and binds it to the model's head.
        there: Whether the lens exists; the first process decides, and `load` fails in a process that lacks it.
        sentence: Sentence for the user; None: nothing to say.
        title: Name above a table.
    """

    load: Callable[[FrozenLM, Head], LoadedLens]
    there: bool = True
    sentence: str | None = None
    title: str | None = None


@dataclass(frozen=True, kw_only=True)
class LensOptions:
    """Command-line options that select the lens of a kind, by dotted name.

    Attributes:
        source: Options for the source, of which the first given is used; without any, `lens.sources.<name>`.
        by_name: Option that gives the sources of several lenses by name, this kind's among them.
        revision: Option for the revision on the Hub.
        use: Option with `auto`, `require` or `off` in a sweep.
        folder: Option for the folder of locally fitted lenses, with a subfolder per model.
        fit_command: Subcommand that fits a lens of this kind.
    """

    source: tuple[str, ...] = ()
    by_name: str | None = None
    revision: str | None = None
    use: str | None = None
    folder: str | None = None
    fit_command: str | None = None

    @property
    def own(self) -> tuple[str, ...]:
        """Options for the source that are this kind's own."""
        return self.source if self.by_name is None else (*self.source, self.by_name)
