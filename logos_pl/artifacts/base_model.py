"""The model that an imported lens was fitted on, as named in its files, compared with the loaded model."""

from logos_pl.errors import InputError
from logos_pl.lm.frozen import FrozenLM
from logos_pl.lm.model_names import HUB_COMMIT
from logos_pl.lm.sources import clean_name


def shown_model(recorded: str) -> str:
    """Hub id, or a folder's name: never a path on another machine."""
    name = recorded.replace("\\", "/")
    return clean_name(name) if name.startswith(("/", ".", "~")) or name.count("/") > 1 or ":" in name else name


def refuse_other_name(fitted: str, revision: str | None, lm: FrozenLM, remedy: str = "") -> None:
    """Refuse a model with another name or commit.

    Names are compared in full if both have an organisation, otherwise by their last part. A branch or a tag cannot be
    compared with a commit.

    Args:
        fitted: The model of the lens, as from ``shown_model``.
        revision: Its branch, tag or commit.
        lm: The loaded model.
        remedy: What else to do if the two are copies of one model.

    Raises:
        InputError: Naming both.
    """
    given = lm.model_id
    whole = "/" in fitted and "/" in given
    if (fitted != given) if whole else (clean_name(fitted) != clean_name(given)):
        raise InputError(f"The imported lens was trained for {fitted}, not for {given}: load {fitted}{remedy}.")
    commits = (revision or "", lm.model_commit)
    if all(HUB_COMMIT.fullmatch(commit) for commit in commits) and commits[0] != commits[1]:
        raise InputError(
            f"The imported lens was trained for {fitted} at commit {commits[0]}, but the model is at {commits[1]}: "
            "load that revision of the model."
        )
