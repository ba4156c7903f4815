"""Which failure it was, told from the errors that the real client raises."""

import errno

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import httpx

from logos_pl.errors import causes
from logos_pl.io.hub_failures import CONDITIONS, Failure


def answered(status: int, kind: type[HfHubHTTPError] = HfHubHTTPError, said: str = "no") -> HfHubHTTPError:
    request = httpx.Request("GET", "http://127.0.0.1/api/models/org/x")
    return kind(said, response=httpx.Response(status, request=request))


def because_of(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (answered(401, RepositoryNotFoundError), "no repository"),  # what the Hub says of a private one, too
        (answered(401), "token refused"),
        (answered(400, said="Invalid credentials in Authorization header"), "token refused"),
        (answered(403, GatedRepoError), "gated"),  # which is a RepositoryNotFoundError
        (answered(404, RemoteEntryNotFoundError), "no file"),
        (LocalEntryNotFoundError("not cached"), "unreachable"),  # the file may well be on the Hub
        (because_of(LocalEntryNotFoundError("not cached"), OfflineModeIsEnabled("off")), "offline"),
        (because_of(LocalEntryNotFoundError("not cached"), answered(503)), "server failed"),
        (because_of(OSError("fetching failed"), OSError(errno.ENOSPC, "full")), "disk full"),
        (because_of(RuntimeError("upload failed"), httpx.ReadError("reset")), "unreachable"),
        (answered(404), "refused"),
        (ValueError("a bad card"), "other"),
    ],
)
def test_the_first_failure_that_holds_is_the_most_special_one(error: BaseException, failure: Failure) -> None:
    assert next(name for name, holds in CONDITIONS.items() if holds(causes(error))) == failure
