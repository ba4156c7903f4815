"""The lens that `read` and `chat` use: the one given, else the one fitted for the model, else the logit lens."""

import shlex
from pathlib import Path
from typing import NamedTuple

from logos_pl.cli.command_line import written
from logos_pl.errors import InputError
from logos_pl.kinds.registry import LensKind, kind_of, kinds
from logos_pl.kinds.request import FoundLens, LensRequest
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lm.adapter_sources import recorded_folder, recorded_id
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.model_names import HUB_COMMIT, split_revision
from logos_pl.settings.fit import ExportSettings

LOGIT = "norm"
"""Name of the logit lens."""

FITTED = "tuned"
"""Kind of lens that is searched for by default, and of a source without a kind."""

TESTED = {None: "not tested: `logos-pl test`", True: "has passed all gates", False: "has not passed all gates"}
"""Description of a lens by its recorded verdict."""


class GivenModel(NamedTuple):
    """A model as the user named it.

    Attributes:
        model_id: Hub id or folder.
        gguf: Name of its GGUF file; None if none was named.
        adapter: Folder or Hub id of an adapter; None if none was named.
    """

    model_id: str
    gguf: str | None = None
    adapter: str | None = None

    @property
    def recorded_id(self) -> str:
        """Id used in results.

        Raises:
            InputError: A name cannot be used in results.
        """
        return recorded_id(self.model_id, self.gguf, self.adapter)

    @property
    def folder_name(self) -> str:
        """Name of its folders and files.

        Raises:
            InputError: A name cannot be used in results.
        """
        return recorded_folder(self.model_id, self.gguf, self.adapter)

    @property
    def options(self) -> list[str]:
        """The options of a sweep that name it."""
        named = {"model_id": self.model_id, "gguf": self.gguf, "adapter": self.adapter}
        return [f"--model.{name}={written(value)}" for name, value in named.items() if value is not None]


class LensAtHand(NamedTuple):
    """A lens bound to a model.

    Attributes:
        name: Name of its kind.
        lenses: It and the norm lens, by name.
        words: What it is and where it comes from.
        model: The model as the user named it.
        command: Command line of a sweep with this model and lens, without its prompts.
    """

    name: str
    lenses: dict[str, Lens]
    words: str
    model: GivenModel
    command: str


class FoundAtHand(NamedTuple):
    """A lens that was found before the model is loaded.

    Attributes:
        name: Name of its kind.
        found: Loads it; None for the logit lens.
        words: What it is and where it comes from.
        model: The model as the user named it.
        options: Options of a sweep that select the lens.
    """

    name: str
    found: FoundLens | None
    words: str
    model: GivenModel
    options: tuple[str, ...] = ()

    def load(self, lm: FrozenLM) -> LensAtHand:
        """Load the lens and bind it to the model.

        Raises:
            InputError: It is damaged, or of another model.
        """
        head = Head(lm.anatomy)
        norm: dict[str, Lens] = {LOGIT: NormLens(head)}
        command = self._command(lm)
        if self.found is None:
            return LensAtHand(LOGIT, norm, self.words, self.model, command)
        loaded, kind = self.found.load(lm, head), kind_of(self.name)
        passed = None if kind.accepted is None else kind.accepted(kind.section.describe(loaded.origin))
        tested = "" if kind.accepted is None else f" ({TESTED[passed]})"
        lenses = norm | {self.name: loaded.lenses[self.name]}
        return LensAtHand(self.name, lenses, self.words + tested, self.model, command)

    def _command(self, lm: FrozenLM) -> str:
        merged = None if lm.loaded_as is None else lm.loaded_as.adapter
        commit = lm.model_commit if merged is None else merged.base_commit
        named = split_revision(self.model.model_id)[1] is not None
        revision = [f"--model.revision={commit}"] if HUB_COMMIT.fullmatch(commit) and not named else []
        return shlex.join(["logos-pl", "predict", *self.model.options, *revision, *self.options])


def find_lens(model: GivenModel | str, given: str | None, revision: str | None = None) -> FoundAtHand:
    """Find the lens to read a model with.

    Args:
        model: The model, or its Hub id or folder.
        given: Lens given by the user, as the help of `--lens` says; None: the fitted one if there is one, else the
            logit lens.
        revision: Release, branch or commit of a lens on the Hub.

    Raises:
        InputError: The given lens does not exist or cannot be used.
        RunError: The disk or the Hub fails.
    """
    model = GivenModel(model) if isinstance(model, str) else model
    name = model.recorded_id
    if given is None:
        return _fitted(model, name)
    if given == LOGIT:
        return FoundAtHand(LOGIT, None, "logit lens", model)
    kind, source = _kind_and_source(given)
    assert kind.find is not None
    found = kind.find(LensRequest(name, model.folder_name, source=source, revision=revision))
    if not found.there:
        raise InputError(f"--lens {given}: there is no {kind.label} at {source}: give the folder of one.")
    words = f"{kind.label}, {source if revision is None else f'{source} at {revision}'}"
    option = kind.options.own[-1] if kind.options.own else f"lens.sources.{kind.name}"
    options = [f"--{option}={written(source)}", *([] if revision is None else [f"--lens.revision={revision}"])]
    if revision is not None and kind.options.by_name is not None:  # each of several lenses has its own revision
        options = [f"--{option}={written(source)}@{revision}"]
    return FoundAtHand(kind.name, found, words, model, tuple(options))


def _fitted(model: GivenModel, name: str) -> FoundAtHand:
    kind, folder = kind_of(FITTED), ExportSettings().of(model.folder_name)
    assert kind.find is not None
    found = kind.find(LensRequest(name, model.folder_name, folder=folder))
    if found.there:
        return FoundAtHand(kind.name, found, f"{kind.label}, {folder}", model)
    return FoundAtHand(LOGIT, None, f"logit lens (no {kind.label} in {folder})", model)


def _kind_and_source(given: str) -> tuple[LensKind, str]:
    """Kind and source of ``[KIND:]SOURCE``.

    Raises:
        InputError: Lenses of the kind are not read from files, or the source is missing.
    """
    name, colon, source = given.partition(":")
    if not colon or name not in {kind.name for kind in kinds()} or Path(given).exists():
        return kind_of(FITTED), given
    kind = kind_of(name)
    if kind.find is None or not kind.swept:
        readable = ", ".join(kind.name for kind in kinds() if kind.find is not None and kind.swept)
        raise InputError(f"--lens {given}: a {kind.label} has no files of its own: choose among {readable}.")
    if not source:
        raise InputError(f"--lens {given} needs the lens after the colon: a folder, or org/name on the Hub.")
    return kind, source
