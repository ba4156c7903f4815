"""The message for each failure of a request to the Hub, as one table."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, NamedTuple

from huggingface_hub import constants

from logos_pl.errors import InputError, LogosError, RunError, causes, first_sentence
from logos_pl.io.hub_failures import CONDITIONS, RAISED, Failure

What = Literal["model", "space", "file", "dataset", "lenses", "release"]


class HubUnreachableError(InputError):
    """The Hub cannot be reached: there is no network, or offline mode is on."""


class HubRequest(NamedTuple):
    """A request to the Hub.

    Attributes:
        what: A model, a Space, a file of any repository, a data set of text, a repository of lenses, or a release of it
            that is being published.
        name: The id of the repository.
        revision: Branch, tag or commit; None is the default branch.
        no_file: The sentence for a file that a Space or a repository lacks.
        wanted: What to give instead of a Space that does not exist.
    """

    what: What
    name: str
    revision: str | None = None
    no_file: str = "A requested file does not exist."
    wanted: str = ""


@contextmanager
def explaining(request: HubRequest) -> Iterator[None]:
    """Turn what calls of huggingface_hub raise into one sentence for the user.

    Raises:
        InputError: No token or a wrong one, no such repository, revision or file, no access, no network.
        RunError: The disk is full, or the connection or the Hub failed half-way.
    """
    try:
        yield
    except LogosError:
        raise
    except RAISED as error:
        raise explain(error, request) from error


def explain(error: BaseException, request: HubRequest) -> LogosError:
    """The user's error for an exception, found through its chain of causes."""
    chain = causes(error)
    holding = (failure for failure, holds in CONDITIONS.items() if holds(chain))
    return next(failed(failure, request, error) for failure in holding if _column(failure, request.what) is not None)


def failed(failure: Failure, request: HubRequest, error: BaseException | None = None) -> LogosError:
    """The user's error for a failure.

    Args:
        failure: One with a message for this kind of request.
        request: The request.
        error: What was raised, if anything was.
    """
    column = _column(failure, request.what)
    assert column is not None
    kind, sentence = column
    said = {} if error is None else {"error": type(error).__name__, "said": first_sentence(error)}
    return kind(sentence.format(**request._asdict(), endpoint=constants.ENDPOINT, **said))


def _column(failure: Failure, what: What) -> tuple[type[LogosError], str] | None:
    """Error and sentence; by default, a Space or a file has those of a model, and a release those of a repository."""
    row = SENTENCES[failure]
    like: What = {"space": "model", "file": "model", "release": "lenses"}.get(what, what)  # type: ignore[assignment]
    return row.get(what, row.get(like))


Row = dict[str, tuple[type[LogosError], str]]


def _row(error: type[LogosError], **sentences: str) -> Row:
    """A row of the table, by kind of request."""
    return {what: (error, sentence) for what, sentence in sentences.items()}


_TOKEN_REFUSED = "The Hub does not accept this machine's token: log in again with `hf auth login`, or fix HF_TOKEN."
_NO_DATASET = (
    "There is no dataset {name} on the Hub that you can access, nor a folder or file of that name; check "
    "--data.dataset, or log in with `hf auth login` if it is private."
)
_NO_SPACE = "There is neither a folder nor a Space {name} that this machine can access: {wanted}."
_DATASET_UNREACHABLE = (
    "Dataset {name} is not a local folder or file, and the Hub cannot be reached ({error}); connect to the network, or "
    "give a local copy with --data.dataset."
)

SENTENCES: Mapping[Failure, Row] = {
    "no token": _row(
        InputError,
        lenses="There is no Hub token on this machine: log in with `hf auth login`, or set HF_TOKEN, with write "
        "access.",
    ),
    "token refused": _row(InputError, model=_TOKEN_REFUSED, dataset=_TOKEN_REFUSED, lenses=_TOKEN_REFUSED),
    "no id": _row(
        InputError,
        model="{name!r} is not a model id; give `organisation/name`, a folder or `demo`.",
        space=_NO_SPACE,
        file="{name!r} is not the id of a repository: give `organisation/name` and the path of the file in it.",
        dataset=_NO_DATASET,
        lenses="{name!r} is not the id of a repository: give `organisation/name`.",
    ),
    "gated": _row(
        InputError,
        model="{name} is gated and this machine has no access; accept its licence at {endpoint}/{name} and log in with "
        "`hf auth login`.",
        space="The Space {name} is gated and this machine has no access: accept its terms at {endpoint}/spaces/{name} "
        "and log in with `hf auth login`.",
        dataset="Dataset {name} is gated: accept its conditions on https://huggingface.co/datasets/{name} and log in "
        "with `hf auth login`.",
        lenses="{name} is gated and this machine has no access: accept its terms at {endpoint}/datasets/{name} and log "
        "in with `hf auth login`.",
    ),
    "disabled": _row(InputError, lenses="{name} has been disabled by the Hub: see {endpoint}/datasets/{name}."),
    "no revision": _row(
        InputError,
        model="{name} has no revision {revision!r}; give a branch, tag or commit that exists on the Hub.",
        dataset="Dataset {name} has no revision {revision!r}; give a branch, tag or commit of it with --data.revision.",
        lenses="{name} has no revision {revision!r}: `logos-pl hub list` shows its releases.",
    ),
    "no repository": _row(
        InputError,
        model="there is no model {name!r} on the Hub that this machine can access; check the spelling, or log in with "
        "`hf auth login` if it is private.",
        space=_NO_SPACE,
        file="There is no repository {name} on the Hub that this machine can access: check the spelling, or log in "
        "with `hf auth login` if it is private.",
        dataset=_NO_DATASET,
        lenses="There is no folder and no data set on the Hub called {name} that this machine can access: check the "
        "spelling, or log in with `hf auth login` if it is private.",
    ),
    "offline": _row(
        HubUnreachableError,
        model="{name} is not, or not completely, in the local cache, and offline mode is on; unset HF_HUB_OFFLINE to "
        "fetch it, or give a local folder.",
        dataset=_DATASET_UNREACHABLE,
        lenses="{name} is not, or not completely, in the local cache, and offline mode is on: unset HF_HUB_OFFLINE to "
        "fetch it, or give a local folder.",
    ),
    "no file": _row(
        InputError,
        model="{name} has no config.json on the Hub; it is not a model transformers can load (if it has GGUF "
        "files, name one with --model.gguf).",
        space="{no_file}",
        file="{no_file}",
        lenses="{no_file}",
    ),
    "forbidden": _row(RunError, lenses="This machine's token may not do that with {name}: use one with write access."),
    "changed meanwhile": _row(
        RunError, lenses="{name} was changed by someone else at the same time: run the same command again."
    ),
    "too many requests": _row(
        RunError,
        lenses="The Hub is rate-limiting this machine: run the same command again in a few minutes.",
    ),
    "server failed": _row(
        RunError, lenses="The Hub failed while {name} was requested: run the same command again later."
    ),
    "refused": _row(InputError, model="the Hub refused to serve {name} or failed; try again later."),
    "disk full": _row(
        RunError,
        model="the disk is full, so {name} cannot be fetched; free space or point HF_HOME to a larger disk.",
        lenses="The disk is full, so {name} cannot be fetched: free space, or point HF_HOME to a larger disk.",
    ),
    "cache read-only": _row(
        RunError,
        model="the cache folder for {name} cannot be written; point HF_HOME to a folder of yours.",
        lenses="The cache folder for {name} cannot be written: point HF_HOME to a folder of yours.",
    ),
    "not a Hub": _row(
        InputError, lenses="{endpoint} does not answer like the Hub: check HF_ENDPOINT, firewall and proxy."
    ),
    "unreachable": {
        **_row(
            HubUnreachableError,
            model="{name} is not, or not completely, in the local cache, and the Hub cannot be reached; check the "
            "network, or give a local folder.",
            lenses="{name} is not, or not completely, in the local cache, and {endpoint} cannot be reached: check the "
            "network and run the same command again, or give a local folder.",
        ),
        **_row(
            RunError,
            release="The connection to {endpoint} broke while {name} was published: run the same command again; "
            "nothing is visible there until it is complete, and files that have arrived are not sent twice.",
        ),
    },
    "other": {
        **_row(InputError, model="{name} cannot be loaded: {said}"),
        **_row(HubUnreachableError, dataset=_DATASET_UNREACHABLE),
        **_row(RunError, lenses="{name}: {said}"),
    },
}
"""Messages by failure and kind of request; if a cell is empty, the next failure that applies is used."""
