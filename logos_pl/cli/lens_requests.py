"""Which lenses an evaluation reads, from the options of the command line."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from logos_pl.errors import InputError
from logos_pl.kinds.registry import LensKind, kinds
from logos_pl.kinds.request import LensRequest


class Options(Protocol):
    """A command's options by their dotted names, as the parser gives them."""

    def get(self, key: str, default: Any = None) -> Any:
        """The value of an option; the default where the command has no such option."""


def refuse_unread_sources(command: str, sources: Mapping[str, str] | None) -> None:
    """Refuse lenses under `--lens.sources` that a command does not read, or that have an option of their own.

    Raises:
        InputError: Naming the first of them.
    """
    for name in sources or {}:
        kind = next((kind for kind in kinds() if kind.name == name and kind.is_read_by(command)), None)
        if kind is None:
            raise InputError(f"--lens.sources.{name} is of no use: {command} reads no lens named {name}.")
        if kind.options.source:
            raise InputError(f"--lens.sources.{name}: give --{kind.options.source[-1]} instead.")


def lens_requests(
    command: str, options: Options, *, model_id: str, clean_model_name: str, typed: Callable[[str], str]
) -> dict[str, LensRequest]:
    """What a command asks of each kind of lens that it reads, by the kind's name.

    Args:
        command: `validate`, `test` or `predict`; others read no lens.
        options: Its options.
        model_id: Hub id or folder name of the model.
        clean_model_name: The id's last part, which folders are named after.
        typed: Gives a subcommand on the same model, as the user would type it.
    """
    requests, sources = {}, options.get("lens.sources") or {}
    for kind in kinds():
        use = _use(kind, command, options) if kind.is_read_by(command) else "off"
        if use == "off":
            continue
        at, named = kind.options, sources.get(kind.name)
        folder = None if at.folder is None else Path(options.get(at.folder)) / clean_model_name
        requests[kind.name] = LensRequest(
            model_id=model_id,
            clean_model_name=clean_model_name,
            use=use,
            source=next((str(given) for given in map(options.get, at.source) if given is not None), named),
            revision=None if at.revision is None else options.get(at.revision),
            folder=folder,
            fit_command="" if at.fit_command is None else typed(at.fit_command),
        )
    return requests


def _use(kind: LensKind, command: str, options: Options) -> Literal["auto", "require", "off"]:
    if command in kind.needed_by:
        return "require"
    if command == "predict" and kind.options.use is not None:
        return options.get(kind.options.use, "auto")
    return "auto"
