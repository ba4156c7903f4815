"""Checks of options and configuration files before and after parsing.

jsonargparse reads every value as YAML, may open a value as a file and may import it as a class; this module bounds
nesting and size, and restricts imports.
"""

import os
import re
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import set_loader, set_parsing_settings

from logos_pl.errors import InputError
from logos_pl.io.files import is_utf8
from logos_pl.io.parsing import MAX_DEPTH, read_text
from logos_pl.io.terminal import shortened
from logos_pl.io.yaml_parsing import BoundsError, compose_yaml, parse_yaml

ENDLESS_NUMBER = re.compile(r"[-+]?[0-9][0-9_]{300,}")
"""An integer too large to convert to float."""

SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
"""Sexagesimal notation of YAML 1.1, such as 1:30, which no option uses."""

MAX_BYTES = 2**16
"""Largest configuration file in bytes: about ten times all options with their help."""

TEXTS = ("data.prompt", "data.answer")
"""Options of free text, which is never parsed as YAML."""

FILES_AND_FOLDERS = (
    "ckpt_path", "compare.out_dir", "data.prompts", "data.suite", "export.folder", "intermediates.suite",
    "prism.folder", "jacobian.folder", "sweep.out_dir", "trainer.default_root_dir", "validate.out_dir",
    "dir", "folder", "text",
)  # fmt: skip
"""Options that are always paths."""


def guard_values() -> None:
    """Make the parser read values within bounds; invalid or oversized YAML is taken as plain text."""
    set_loader("yaml", _read_value, exceptions=(InputError,))


def guard_imports(allowed: Sequence[str]) -> None:
    """Restrict importable classes to the given paths, and forbid remote configuration files."""
    set_parsing_settings(
        import_path_denylist=["*"],
        import_path_allowlist=list(allowed),
        instantiate_subclass_spec_in_any=False,
        config_read_mode_urls_enabled=False,
        config_read_mode_fsspec_enabled=False,
    )


def _read_value(text: str) -> Any:
    value = parse_yaml(text, "the value")
    if isinstance(value, dict) and value and all(part is None for part in value.values()):
        # `Paris:` and `{name, date}` are text, as for jsonargparse's own loader.
        keys = [str(key) for key in value]
        if text.strip() == f"{keys[0]}:" or set(text.strip(" {}").replace(" ", "").split(",")) == set(keys):
            return text
    return value


def check_arguments(arguments: Sequence[str], sections: Sequence[str]) -> None:
    """Check all arguments before the parser follows their nesting and opens files.

    Args:
        arguments: Command-line arguments.
        sections: Names of the option groups.

    Raises:
        InputError: A configuration cannot be read, a value is out of bounds, or a section is given as an option.
    """
    for number, argument in enumerate(arguments):
        if not argument.startswith("-"):
            continue
        option, equals, value = argument.partition("=")
        if not equals:
            value = arguments[number + 1] if number + 1 < len(arguments) else ""
        if argument.startswith("-c") and len(argument) > 2:
            option, value = "-c", argument[2:].removeprefix("=")
        if option in ("-c", "--config"):
            if equals and not value:
                raise InputError(f"{option} needs the path of a configuration, such as configs/demo.yaml.")
            if value and not value.startswith("--"):
                read_configuration(value, sections)
        elif option.removeprefix("--") in sections:
            raise InputError(f"{option} is a group of options: give them one by one, as {option}.NAME; see --help.")
        elif option.count(".") > MAX_DEPTH:
            raise InputError(f"{option[:60]}… is not an option: see --help.")
        elif option.removeprefix("--") not in TEXTS:
            _refuse_misread(option, value)


def read_configuration(path: str, sections: Sequence[str]) -> dict[str, Any]:
    """Read a configuration file as plain values.

    Raises:
        InputError: It cannot be read, is not YAML or JSON within bounds, or does not consist of sections of options.
    """
    try:
        text = read_text(Path(path), MAX_BYTES, name=f"--config {path}")
    except (OSError, ValueError) as error:  # a path may hold a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"--config {path} cannot be read ({reason}): give a file, such as configs/demo.yaml."
        ) from error
    content = parse_yaml(text, path, MAX_BYTES)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} has no options: begin with a section, such as `model:`, with its options under it.")
    _check_sections(content, path, sections)
    return content


def as_yaml(content: Mapping[str, Any]) -> str:
    """Serialise plain values as YAML that round-trips."""
    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False)


def _check_sections(content: dict[Any, Any], path: str, sections: Sequence[str]) -> None:
    for key, value in content.items():
        if key in sections and not isinstance(value, dict):
            given = "nothing" if value is None else shortened(repr(value), MAX_DEPTH)
            raise InputError(f"{path}: `{key}` must contain options, one per line below it (got {given}).")
        if key == "models" and not isinstance(value, list | None):
            raise InputError(f"{path}: `models` must be a list (got {value!r}).")
        if key == "config":
            raise InputError(f"{path}: `config` names another configuration: give both with --config.")
        _check_values(f"{path}: `{key}`", key, value)


def _check_values(shown: str, key: Any, value: Any) -> None:
    if not isinstance(key, str) or key.startswith("__"):
        raise InputError(f"{shown} has the key {key!r}, which is not an option: remove it.")
    if isinstance(value, dict):
        for name, part in value.items():
            _check_values(shown, name, part)
    elif isinstance(value, list):
        for part in value:
            _check_values(shown, key, part)
    elif isinstance(value, str) and key not in ("prompt", "answer"):
        _refuse_misread(f"{shown}: {key}", value)


def _refuse_misread(option: str, value: str) -> None:
    """Reject values that the parser would misread or nest too deeply; invalid YAML is accepted as text.

    Raises:
        InputError: The value is sexagesimal, too large or nested too deeply.
    """
    if SEXAGESIMAL.fullmatch(value):
        raise InputError(f"{option} {shortened(value, MAX_DEPTH)} is not a number: write it in decimal digits.")
    if len(value) <= MAX_DEPTH:
        return
    if ENDLESS_NUMBER.fullmatch(value):
        raise InputError(f"{option} {shortened(value, MAX_DEPTH)} is too large a number: give a smaller one.")
    try:
        compose_yaml(value, f"The value of {option}")
    except BoundsError:
        raise
    except InputError:
        pass


def check_settings(settings: Iterable[tuple[str, Any]], defaults: Mapping[str, Any]) -> None:
    """Reject values that the parser accepts but no option can have: a misplaced null, empty text, NUL, invalid UTF-8.

    Args:
        settings: Options with their values.
        defaults: Default of each option.

    Raises:
        InputError: A value is rejected; the message names its option.
    """
    for option, value in settings:
        if ".init_args" in option or ".dict_kwargs" in option:
            continue  # argument of a class, which has its own defaults
        default = defaults.get(option)
        if value is None and default is not None:
            raise InputError(f"--{option} cannot be null: leave it out for {default}, or give another value.")
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                _check_text(option, text)


def expand_home(settings: MutableMapping[str, Any]) -> None:
    """Expand a leading `~`, which shells do not in `--option=~/folder`, and YAML never.

    Args:
        settings: Options with their values, modified in place.
    """
    for option in FILES_AND_FOLDERS:
        path = settings.get(option)
        if isinstance(path, str) and path.startswith("~"):
            settings[option] = os.path.expanduser(path)


def _check_text(option: str, text: str) -> None:
    if not text.strip() and option not in TEXTS:
        raise InputError(f"--{option} is empty: give a value, or leave it out.")
    if "\0" in text:
        raise InputError(f"--{option} contains a NUL character: remove it.")
    if not is_utf8(text):
        raise InputError(f"--{option} {text!r} is not UTF-8 text: give it in UTF-8.")
    if option not in TEXTS and text.startswith("~"):
        try:
            os.fspath(Path(text).expanduser())
        except RuntimeError as error:
            raise InputError(f"--{option} {text}: there is no such user's home folder.") from error
