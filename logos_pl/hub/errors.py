"""What huggingface_hub raises, as one sentence for the user."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from logos_pl.errors import InputError, LogosError, RunError
from logos_pl.lm.hub_errors import causes, first_sentence


class HubUnreachableError(InputError):
    """The Hub cannot be asked: there is no network, or offline mode is on."""


# ValueError: a card that the Hub's validator refuses, or a storage that does; RuntimeError: an upload that broke off.
RAISED = (OSError, EntryNotFoundError, httpx.HTTPError, ValueError, RuntimeError)


@contextmanager
def speaking_of(repo_id: str, revision: str | None = None, pushing: bool = False) -> Iterator[None]:
    """Inside, calls of huggingface_hub alone: what they raise comes out as one sentence.

    Args:
        repo_id: The repository they are about.
        revision: What of it is asked for.
        pushing: Whether something is being published.

    Raises:
        InputError: No token or a wrong one, no such repository, revision or file, no access, no network.
        RunError: The disk is full, or the connection or the Hub failed half-way.
    """
    try:
        yield
    except LogosError:
        raise
    except RAISED as error:
        raise explain(error, repo_id, revision, pushing) from error


def explain(error: BaseException, repo_id: str, revision: str | None = None, pushing: bool = False) -> LogosError:
    """The user's error, looked for through the chain of causes."""
    chain = causes(error)
    status = next((link.response.status_code for link in chain if isinstance(link, HfHubHTTPError)), None)
    credentials = any("credentials in Authorization header" in str(link) for link in chain)
    if any(isinstance(link, LocalTokenNotFoundError) for link in chain):
        return no_token()
    if credentials or (status == 401 and not any(isinstance(link, RepositoryNotFoundError) for link in chain)):
        return InputError(
            "The Hub does not accept this machine's token: log in again with `hf auth login`, or mend HF_TOKEN."
        )
    for kind, text in _not_there(repo_id, revision):
        if any(isinstance(link, kind) for link in chain):
            return (HubUnreachableError if kind is OfflineModeIsEnabled else InputError)(text)
    if status in _REFUSALS:
        return RunError(_REFUSALS[status].format(repo_id=repo_id))
    codes = {link.errno for link in chain if isinstance(link, OSError)}
    if codes & {errno.ENOSPC, errno.EDQUOT}:
        return RunError(f"The disk is full while {repo_id} is fetched: free space, or point HF_HOME to a larger disk.")
    if codes & {errno.EROFS, errno.EACCES}:
        return RunError(f"The cache folder for {repo_id} cannot be written: point HF_HOME to a folder of yours.")
    if any(isinstance(link, FileMetadataError) for link in chain):
        return InputError(
            f"{constants.ENDPOINT} does not answer as the Hub does: check HF_ENDPOINT, firewall and proxy."
        )
    if any(isinstance(link, httpx.TransportError | LocalEntryNotFoundError) for link in chain):
        return _broken(repo_id, pushing)
    if any("Consistency check failed" in str(link) for link in chain):
        return _broken(repo_id, pushing)
    return RunError(f"{repo_id}: {first_sentence(error)}")


def no_token() -> InputError:
    """Nothing to log in to the Hub with."""
    return InputError(
        "There is no Hub token on this machine: log in with `hf auth login`, or set HF_TOKEN, with one that may write."
    )


_REFUSALS = {
    403: "This machine's token may not do that with {repo_id}: use one that may write to it.",
    409: "{repo_id} was changed by someone else at the same moment: run the same command again.",
    412: "{repo_id} was changed by someone else at the same moment: run the same command again.",
    429: "The Hub takes no more requests from this machine for now: run the same command again in some minutes.",
    500: "The Hub failed while it was asked for {repo_id}: run the same command again later.",
    502: "The Hub failed while it was asked for {repo_id}: run the same command again later.",
    503: "The Hub failed while it was asked for {repo_id}: run the same command again later.",
    504: "The Hub failed while it was asked for {repo_id}: run the same command again later.",
}


def _broken(repo_id: str, pushing: bool) -> LogosError:
    if pushing:
        return RunError(
            f"The connection to {constants.ENDPOINT} broke while {repo_id} was published: run the same command again; "
            "nothing shows there before it is whole, and what has arrived is not sent twice."
        )
    return HubUnreachableError(
        f"{repo_id} is not in the local cache, or not all of it, and {constants.ENDPOINT} cannot be reached: "
        "check the network and run the same command again, or give a local folder."
    )


def _not_there(repo_id: str, revision: str | None) -> list[tuple[type[BaseException], str]]:
    """Kinds of failure, the more special ones first (a gated repository is also one that is not found)."""
    page = f"{constants.ENDPOINT}/datasets/{repo_id}"
    return [
        (HFValidationError, f"{repo_id!r} is no repository on the Hub: give `organisation/name`."),
        (
            GatedRepoError,
            f"{repo_id} is gated and this machine has no access: accept its terms at {page} and log in with "
            "`hf auth login`.",
        ),
        (DisabledRepoError, f"{repo_id} has been disabled by the Hub: see {page}."),
        (RevisionNotFoundError, f"{repo_id} has no revision {revision!r}: `logos-pl hub list` shows its releases."),
        (
            RepositoryNotFoundError,
            f"There is no folder and no data set on the Hub called {repo_id} that this machine may see: check the "
            "spelling, or log in with `hf auth login` if it is private.",
        ),
        (
            OfflineModeIsEnabled,
            f"{repo_id} is not in the local cache, or not all of it, and offline mode is on: unset HF_HUB_OFFLINE to "
            "fetch it, or give a local folder.",
        ),
    ]
