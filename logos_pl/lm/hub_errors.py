"""What the Hub, the network or the disk refuses, as one sentence for the user."""

import errno

from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from logos_pl.demo import DEMO
from logos_pl.errors import InputError, LogosError, RunError


def explain(error: BaseException, model_id: str, revision: str | None = None) -> LogosError:
    """The user's error for what the Hub or the disk raised, looked for through the chain of causes."""
    chain = causes(error)
    for kind, text in _hub_messages(model_id, revision):
        if any(isinstance(link, kind) for link in chain):
            return InputError(text)
    codes = {link.errno for link in chain if isinstance(link, OSError)}
    if codes & {errno.ENOSPC, errno.EDQUOT}:
        return RunError(f"the disk is full while {model_id} is fetched; free space or point HF_HOME to a larger disk.")
    if codes & {errno.EROFS, errno.EACCES}:
        return RunError(f"the cache folder for {model_id} cannot be written; point HF_HOME to a folder of yours.")
    return InputError(f"{model_id} cannot be loaded: {first_sentence(error)}")


def _hub_messages(model_id: str, revision: str | None) -> list[tuple[type[BaseException], str]]:
    """Kinds of failure, the more special ones first (a gated repository is also one that is not found)."""
    return [
        (HFValidationError, f"{model_id!r} is not a model id; give `organisation/name`, a folder or `{DEMO}`."),
        (
            GatedRepoError,
            f"{model_id} is gated and this machine has no access; accept its licence at {constants.ENDPOINT}/{model_id}"
            " and log in with `hf auth login`.",
        ),
        (
            RevisionNotFoundError,
            f"{model_id} has no revision {revision!r}; give a branch, tag or commit that exists on the Hub.",
        ),
        (
            RepositoryNotFoundError,
            f"there is no model {model_id!r} on the Hub that this machine may see; check the spelling, or log in with "
            "`hf auth login` if it is private.",
        ),
        (
            OfflineModeIsEnabled,
            f"{model_id} is not in the local cache, or not all of it, and offline mode is on; unset HF_HUB_OFFLINE to "
            "fetch it, or give a local folder.",
        ),
        (
            LocalEntryNotFoundError,
            f"{model_id} is not in the local cache, or not all of it, and the Hub cannot be reached; check the "
            "network, or give a local folder.",
        ),
        (EntryNotFoundError, f"{model_id} has no config.json on the Hub; it is not a model transformers can load."),
        (HfHubHTTPError, f"the Hub refused to serve {model_id} or failed; try again later."),
    ]


def first_sentence(error: BaseException) -> str:
    """The first line of an error, ended by one full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(" .:") + "."


def causes(error: BaseException) -> list[BaseException]:
    """An error with what it was raised from, the error itself first."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain
