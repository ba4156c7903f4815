"""Lenses that an evaluation loads, from the command-line options."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from logos_pl.artifacts.imported_lens import sources_by_name
from logos_pl.errors import InputError
from logos_pl.kinds.registry import LensKind, kinds
from logos_pl.kinds.request import LensRequest


class Options(Protocol):
    """Parsed options by dotted name."""

    def get(self, key: str, default: Any = None) -> Any:
        """Value of an option; the default if the command lacks it."""


def refuse_unread_sources(command: str, sources: Mapping[str, str] | None) -> None:
    """Reject lenses in `--lens.sources` that the command does not use or that have a dedicated option.

    Raises:
        InputError: There is such a lens.
    """
    for name in sources or {}:
        kind = next((kind for kind in kinds() if kind.name == name and kind.is_read_by(command)), None)
        if kind is None:
            raise InputError(f"--lens.sources.{name} has no effect: {command} uses no lens named {name}.")
        if kind.options.own:
            raise InputError(f"--lens.sources.{name}: give --{kind.options.own[-1]} instead.")


def lens_requests(
    command: str, options: Options, *, model_id: str, clean_model_name: str, typed: Callable[[str], str]
) -> dict[str, LensRequest]:
    """Return the request of each lens kind that a command uses, by name of the kind.

    Args:
        command: `validate`, `test` or `predict`; other commands use no lenses.
        options: Options of the command.
        model_id: Hub id or folder name of the model.
        clean_model_name: Last part of the id, used in folder names.
        typed: Returns the command line of a subcommand on the same model, for messages.
    """
    requests, sources = {}, options.get("lens.sources") or {}
    for kind in kinds():
        use = _use(kind, command, options) if kind.is_read_by(command) else "off"
        if use == "off":
            continue
        at = kind.options
        named = (sources if at.by_name is None else sources_by_name(options.get(at.by_name))).get(kind.name)
        folder = None if at.folder is None else Path(options.get(at.folder)) / clean_model_name
        requests[kind.name] = LensRequest(
            model_id=model_id,
            clean_model_name=clean_model_name,
            use=use,
            source=next((str(given) for given in map(options.get, at.source) if given is not None), named),
            revision=None if at.revision is None else options.get(at.revision),
            folder=folder,
            transfer=bool(options.get("lens.transfer")),
            fit_command="" if at.fit_command is None else typed(at.fit_command),
        )
    return requests


def _use(kind: LensKind, command: str, options: Options) -> Literal["auto", "require", "off"]:
    if command in kind.needed_by:
        return "require"
    if command == "predict" and kind.options.use is not None:
        return options.get(kind.options.use, "auto")
    return "auto"
