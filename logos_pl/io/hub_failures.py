"""Kinds of failure of a request to the Hub, recognised from what huggingface_hub, httpx and the disk raise."""

import errno
from collections.abc import Callable, Sequence
from typing import Literal

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

Failure = Literal[
    "no token", "token refused", "no id", "gated", "disabled", "no revision", "no repository", "offline", "no file",
    "forbidden", "changed meanwhile", "too many requests", "server failed", "refused", "disk full", "cache read-only",
    "not a Hub", "unreachable", "other",
]  # fmt: skip
Chain = Sequence[BaseException]
"""An error and its chain of causes."""
Condition = Callable[[Chain], bool]

RAISED = (OSError, EntryNotFoundError, httpx.HTTPError, ValueError, RuntimeError)
"""All that such calls raise; ValueError: a card or a storage that the client refuses, RuntimeError: a broken upload."""


def _is(*kinds: type[BaseException]) -> Condition:
    return lambda chain: any(isinstance(link, kinds) for link in chain)


def _status(chain: Chain) -> int | None:
    return next((link.response.status_code for link in chain if isinstance(link, HfHubHTTPError)), None)


def _answered(*statuses: int) -> Condition:
    return lambda chain: _status(chain) in statuses


def _disk_says(*codes: int) -> Condition:
    return lambda chain: any(isinstance(link, OSError) and link.errno in codes for link in chain)


def _token_is_refused(chain: Chain) -> bool:
    said = any("credentials in Authorization header" in str(link) for link in chain)
    return said or (_status(chain) == 401 and not _is(RepositoryNotFoundError)(chain))


def _file_is_missing(chain: Chain) -> bool:
    """Whether a file is missing on the Hub, not just in the cache."""
    return any(isinstance(link, EntryNotFoundError) and not isinstance(link, LocalEntryNotFoundError) for link in chain)


def _is_unreachable(chain: Chain) -> bool:
    broken_off = any("Consistency check failed" in str(link) for link in chain)
    return broken_off or _is(httpx.TransportError, LocalEntryNotFoundError)(chain)


CONDITIONS: dict[Failure, Condition] = {
    "no token": _is(LocalTokenNotFoundError),
    "token refused": _token_is_refused,
    "no id": _is(HFValidationError),
    "gated": _is(GatedRepoError),
    "disabled": _is(DisabledRepoError),
    "no revision": _is(RevisionNotFoundError),
    "no repository": _is(RepositoryNotFoundError),
    "offline": _is(OfflineModeIsEnabled),
    "no file": _file_is_missing,
    "forbidden": _answered(403),
    "changed meanwhile": _answered(409, 412),
    "too many requests": _answered(429),
    "server failed": _answered(500, 502, 503, 504),
    "refused": _is(HfHubHTTPError),
    "disk full": _disk_says(errno.ENOSPC, errno.EDQUOT),
    "cache read-only": _disk_says(errno.EROFS, errno.EACCES),
    "not a Hub": _is(FileMetadataError),
    "unreachable": _is_unreachable,
    "other": lambda chain: True,
}
"""In order, the most specific first, as several may hold: a gated repository is also one that is not found."""
