"""The lens that `read` and `chat` use: the one given, else the one fitted for the model, else the logit lens."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from logos_pl.cli.command_line import written
from logos_pl.errors import InputError
from logos_pl.kinds.registry import LensKind, kind_of, kinds
from logos_pl.kinds.request import FoundLens, LensRequest
from logos_pl.lenses.head import Head
from logos_pl.lenses.norm import Lens, NormLens
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.sources import filed_under, folder_name_of
from logos_pl.settings.fit import ExportSettings

LOGIT = "norm"
"""Name of the logit lens."""

COMMIT = re.compile("[0-9a-f]{40}")
"""A commit on the Hub."""

FITTED = "tuned"
"""Kind of the lenses that are looked for, and of a source without a kind."""

TESTED = {None: "not tested: `logos-pl test`", True: "has passed all gates", False: "has not passed all gates"}
"""What is said of a lens by the verdict that its origin records."""


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
    model: str
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
    model: str
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
        commit = lm.model_commit if COMMIT.fullmatch(lm.model_commit) and lm.named_revision is None else None
        revision = [] if commit is None else [f"--model.revision={commit}"]
        return shlex.join(["logos-pl", "predict", f"--model.model_id={written(self.model)}", *revision, *self.options])


def find_lens(model_id: str, given: str | None, revision: str | None = None) -> FoundAtHand:
    """Find the lens to read a model with.

    Args:
        model_id: Hub id or folder of the model.
        given: Lens given by the user, as the help of `--lens` says; None: the one that is there.
        revision: Release, branch or commit of a lens on the Hub.

    Raises:
        InputError: The given lens does not exist or cannot be used.
        RunError: The disk or the Hub fails.
    """
    name = filed_under(model_id)
    if given is None:
        return _fitted(model_id, name)
    if given == LOGIT:
        return FoundAtHand(LOGIT, None, "logit lens", model_id)
    kind, source = _kind_and_source(given)
    assert kind.find is not None
    found = kind.find(LensRequest(name, folder_name_of(model_id), source=source, revision=revision))
    if not found.there:
        raise InputError(f"--lens {given}: there is no {kind.label} at {source}: give the folder of one.")
    words = f"{kind.label}, {source if revision is None else f'{source} at {revision}'}"
    option = kind.options.own[-1] if kind.options.own else f"lens.sources.{kind.name}"
    options = [f"--{option}={written(source)}", *([] if revision is None else [f"--lens.revision={revision}"])]
    if revision is not None and kind.options.by_name is not None:  # each of several has a revision of its own
        options = [f"--{option}={written(source)}@{revision}"]
    return FoundAtHand(kind.name, found, words, model_id, tuple(options))


def _fitted(model_id: str, name: str) -> FoundAtHand:
    kind, folder = kind_of(FITTED), ExportSettings().of(folder_name_of(model_id))
    assert kind.find is not None
    found = kind.find(LensRequest(name, folder_name_of(model_id), folder=folder))
    if found.there:
        return FoundAtHand(kind.name, found, f"{kind.label}, {folder}", model_id)
    return FoundAtHand(LOGIT, None, f"logit lens (no {kind.label} in {folder})", model_id)


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
