"""What is not met over HTTP in the tests of those who ask the Hub: each failure is one sentence with what to do."""

import errno
from typing import get_args

import pytest
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from logos_pl.errors import InputError, LogosError, RunError
from logos_pl.io.hub_errors import SENTENCES, HubRequest, HubUnreachableError, What, explain, explaining, failed
from logos_pl.io.hub_failures import CONDITIONS, Failure


def answered(status: int) -> HfHubHTTPError:
    request = httpx.Request("GET", "http://127.0.0.1/api/datasets/me/lenses")
    return HfHubHTTPError("what the Hub says\nat length", response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (answered(401), InputError, "The Hub does not accept this machine's token: log in again"),
        (answered(403), RunError, "This machine's token may not do that with me/lenses"),
        (answered(409), RunError, "me/lenses was changed by someone else at the same time"),
        (answered(429), RunError, "The Hub is rate-limiting this machine"),
        (answered(503), RunError, "The Hub failed while me/lenses was requested"),
        (answered(418), RunError, "me/lenses: what the Hub says."),
        (FileMetadataError("no header"), InputError, " does not answer like the Hub: check HF_ENDPOINT"),
        (LocalEntryNotFoundError("not here"), InputError, "me/lenses is not, or not completely, in the local cache"),
        (httpx.ConnectError("refused"), InputError, "cannot be reached: check the network"),
        (OSError("Consistency check failed: file should be of size 2"), InputError, "cannot be reached"),
        (OSError(errno.EDQUOT, "quota"), RunError, "The disk is full, so me/lenses cannot be fetched"),
        (PermissionError(errno.EACCES, "no"), RunError, "The cache folder for me/lenses cannot be written"),
        (ValueError("Invalid metadata in README.md.\n- more"), RunError, "me/lenses: Invalid metadata in README.md."),
    ],
)
def test_a_failure_is_one_sentence(error: Exception, kind: type[LogosError], sentence: str) -> None:
    found = explain(error, HubRequest("lenses", "me/lenses"))
    assert isinstance(found, kind)
    assert sentence in str(found)
    assert "\n" not in str(found)


def test_the_cause_behind_an_error_is_found() -> None:
    error = RuntimeError("Error while uploading 'weights.pt' to the Hub.")
    error.__cause__ = httpx.ReadError("reset")
    assert "broke while me/lenses was published: run the same" in str(
        explain(error, HubRequest("release", "me/lenses"))
    )


def test_a_fault_of_the_program_and_a_sentence_that_is_one_already_pass_through() -> None:
    with pytest.raises(KeyError), explaining(HubRequest("lenses", "me/lenses")):
        raise KeyError("a bug")
    with pytest.raises(InputError, match=r"^As it is\.$"), explaining(HubRequest("lenses", "me/lenses")):
        raise InputError("As it is.")


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (
            OfflineModeIsEnabled("offline"),
            "completely, in the local cache, and offline mode is on; unset HF_HUB_OFFLINE",
        ),
        (
            ConnectionError("no route"),
            "completely, in the local cache, and the Hub cannot be reached; check the network",
        ),
    ],
)
def test_offline_mode_and_a_missing_network_are_told_apart(cause: Exception, words: str) -> None:
    missing = LocalEntryNotFoundError("not found")
    missing.__cause__ = cause
    assert words in str(explain(missing, HubRequest("model", "org/model")))


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written"), (errno.EACCES, "cannot be written")],
)
def test_a_disk_that_refuses_is_a_failure_of_the_run_not_of_the_input(code: int, words: str) -> None:
    wrapped = OSError("could not fetch")
    wrapped.__cause__ = OSError(code, "disk")
    error: LogosError = explain(wrapped, HubRequest("model", "org/model"))
    assert isinstance(error, RunError)
    assert words in str(error)


def test_anything_else_keeps_its_first_line() -> None:
    assert (
        str(explain(OSError("odd thing.\nmore"), HubRequest("model", "org/model")))
        == "org/model cannot be loaded: odd thing."
    )


@pytest.mark.parametrize(
    ("error", "what", "sentence"),
    [
        (GatedRepoError, "space", "The Space org/x is gated and this machine has no access: accept its terms at "),
        (GatedRepoError, "dataset", "Dataset org/x is gated: accept its conditions on https://huggingface.co/datasets"),
        (RevisionNotFoundError, "dataset", "Dataset org/x has no revision 'v9'; give a branch, tag or commit of it"),
        (
            RepositoryNotFoundError,
            "space",
            "There is neither a folder nor a Space org/x that this machine can access: W.",
        ),
        (RepositoryNotFoundError, "release", "There is no folder and no data set on the Hub called org/x"),
    ],
)
def test_a_sentence_speaks_of_what_was_asked_for(error: type[HfHubHTTPError], what: What, sentence: str) -> None:
    refused = error("no", response=answered(403).response)
    found = explain(refused, HubRequest(what, "org/x", "v9", wanted="W"))
    assert isinstance(found, InputError)
    assert str(found).startswith(sentence)


def test_a_file_that_is_not_on_the_hub_has_the_sentence_of_whoever_wanted_it() -> None:
    error = EntryNotFoundError("404")
    for what in ("space", "file", "lenses", "release"):
        assert str(explain(error, HubRequest(what, "org/x", no_file="No {lens} there."))) == "No {lens} there."
    assert "org/x has no config.json on the Hub" in str(explain(error, HubRequest("model", "org/x")))


@pytest.mark.parametrize("what", get_args(What))
def test_a_token_that_is_refused_is_said_whatever_was_asked_for(what: What) -> None:
    assert str(explain(answered(401), HubRequest(what, "org/x"))).startswith(
        "The Hub does not accept this machine's token"
    )


@pytest.mark.parametrize("what", get_args(What))
@pytest.mark.parametrize(
    "error", [HFValidationError("a b"), RuntimeError("odd"), ConnectionError("no"), OSError("odd")]
)
def test_whatever_is_raised_and_asked_for_there_is_one_sentence(what: What, error: Exception) -> None:
    found = explain(error, HubRequest(what, "a b", wanted="give a folder"))
    assert str(found).endswith(".")
    assert not {"{", "}", "\n"} & set(str(found))


def test_every_failure_has_a_sentence_and_every_sentence_can_be_filled_in() -> None:
    assert CONDITIONS.keys() == SENTENCES.keys() == set(get_args(Failure))
    for failure, row in SENTENCES.items():
        assert row
        for what in row:
            error = failed(failure, HubRequest(what, "org/x", "v1", "No file."), ValueError("odd"))
            assert "{" not in str(error)
    assert {*get_args(What)} - SENTENCES["other"].keys() == {"space", "file", "release"}  # which have those of another


@pytest.mark.parametrize(
    ("error", "what", "unreachable"),
    [
        (OfflineModeIsEnabled("off"), "lenses", True),
        (httpx.ConnectError("refused"), "model", True),
        (httpx.ConnectError("refused"), "release", False),
        (answered(503), "lenses", False),
    ],
)
def test_a_hub_that_cannot_be_asked_is_told_from_one_that_refuses(
    error: Exception, what: What, unreachable: bool
) -> None:
    assert isinstance(explain(error, HubRequest(what, "org/x")), HubUnreachableError) == unreachable
