"""What is not met over HTTP in the other tests: each kind of failure is one sentence with what to do."""

import errno

import pytest
from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import httpx

from logos_pl.errors import InputError, LogosError, RunError
from logos_pl.hub.errors import explain, speaking_of


def answered(status: int) -> HfHubHTTPError:
    request = httpx.Request("GET", "http://127.0.0.1/api/datasets/me/lenses")
    return HfHubHTTPError("what the Hub says\nat length", response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (answered(401), InputError, "The Hub does not accept this machine's token: log in again"),
        (answered(403), RunError, "This machine's token may not do that with me/lenses"),
        (answered(409), RunError, "me/lenses was changed by someone else at the same moment"),
        (answered(429), RunError, "The Hub takes no more requests from this machine for now"),
        (answered(503), RunError, "The Hub failed while it was asked for me/lenses"),
        (answered(418), RunError, "me/lenses: what the Hub says."),
        (FileMetadataError("no header"), InputError, " does not answer as the Hub does: check HF_ENDPOINT"),
        (LocalEntryNotFoundError("not here"), InputError, "me/lenses is not in the local cache, or not all of it"),
        (httpx.ConnectError("refused"), InputError, "cannot be reached: check the network"),
        (OSError("Consistency check failed: file should be of size 2"), InputError, "cannot be reached"),
        (OSError(errno.EDQUOT, "quota"), RunError, "The disk is full while me/lenses is fetched"),
        (PermissionError(errno.EACCES, "no"), RunError, "The cache folder for me/lenses cannot be written"),
        (ValueError("Invalid metadata in README.md.\n- more"), RunError, "me/lenses: Invalid metadata in README.md."),
    ],
)
def test_a_failure_is_one_sentence(error: Exception, kind: type[LogosError], sentence: str) -> None:
    found = explain(error, "me/lenses")
    assert isinstance(found, kind)
    assert sentence in str(found)
    assert "\n" not in str(found)


def test_the_cause_behind_an_error_is_found() -> None:
    error = RuntimeError("Error while uploading 'weights.pt' to the Hub.")
    error.__cause__ = httpx.ReadError("reset")
    assert "broke while me/lenses was published: run the same" in str(explain(error, "me/lenses", pushing=True))


def test_a_fault_of_the_program_and_a_sentence_that_is_one_already_pass_through() -> None:
    with pytest.raises(KeyError), speaking_of("me/lenses"):
        raise KeyError("a bug")
    with pytest.raises(InputError, match=r"^As it is\.$"), speaking_of("me/lenses"):
        raise InputError("As it is.")
