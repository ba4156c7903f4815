r"""Have a language model judge a sweep: one run, several models, or the method itself.

python examples/ask_a_judge.py single lightning_logs/sweeps/run-latest --out request.json
python examples/ask_a_judge.py meta lightning_logs/sweeps/run-latest --method docs/method.md --out request.json
python examples/ask_a_judge.py cross lightning_logs/sweeps/run-latest --out verdict.md \
    --url http://127.0.0.1:8000/v1/chat/completions --judge NAME_OF_THE_MODEL

Fills a prompt of examples/judge_prompts from the files of a run. Without --url the request is written to --out. With
it, the request goes to an endpoint that speaks OpenAI's chat completions, and the answer is written to --out. A key is
read from the environment variable that --key_variable names: it is sent over https or to this machine only, and never
printed or written.
"""

import argparse
import ipaddress
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from logos_pl.errors import InputError, LogosError, RunError
from logos_pl.io.files import replace_file
from logos_pl.io.parsing import MIB, parse_json, read_text
from logos_pl.io.terminal import complain, say

PROMPTS = Path(__file__).with_name("judge_prompts")
MAX_FILE_BYTES = 4 * MIB
MAX_DOCUMENT_BYTES = 64 * MIB
MAX_ANSWER_BYTES = 8 * MIB
TIMEOUT_SECONDS = 300.0
PLACE = re.compile(r"\{\{(\w+)\}\}")
MILESTONE_KEYS = ("prompt_id", "prompt_variant", "milestones", "raw_versus_norm", "last_row", "nonfinite")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the request or the answer; returns the exit status."""
    given = parse(arguments)
    try:
        check(given)
        request = fill(given.kind, given.run, given.method)
        body = {"model": given.judge, "temperature": 0, "messages": [{"role": "user", "content": request}]}
        if given.url is None:
            replace_file(given.out, (json.dumps(body, ensure_ascii=False, indent=1) + "\n").encode())
            say(f"request of {len(request):,} characters: {given.out}")
        else:
            say(f"asking {urlsplit(given.url).hostname}: {len(request):,} characters, at most {given.timeout:g} s")
            replace_file(given.out, (post(given.url, body, given.timeout, key(given)) + "\n").encode())
            say(f"answer: {given.out}")
    except LogosError as error:
        complain(str(error))
        return error.exit_status
    except OSError as error:
        complain(f"{error.strerror or error}: check {given.run} and {given.out}.")
        return RunError.exit_status
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=sorted(FILLERS), help="what is judged")
    parser.add_argument("run", type=Path, help="folder that `logos-pl predict` has written")
    parser.add_argument("--out", type=Path, required=True, help="file of the request or, with --url, of the answer")
    parser.add_argument("--url", help="endpoint of chat completions, such as http://127.0.0.1:8000/v1/chat/completions")
    parser.add_argument("--judge", default="judge", help="name of the judging model at the endpoint")
    parser.add_argument(
        "--method", type=Path, default=Path("docs/method.md"), help="description of the method, for meta"
    )
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, help="seconds without an answer")
    parser.add_argument("--key_variable", help="environment variable with the key of the endpoint")
    return parser.parse_args(arguments)


def check(given: argparse.Namespace) -> None:
    """Check the options before anything is read or sent.

    Raises:
        InputError: An option cannot be used.
    """
    if not given.run.is_dir():
        raise InputError(f"{given.run} is not a folder: give the folder that `logos-pl predict` has written.")
    if not 0 < given.timeout < 86_400:
        raise InputError(f"--timeout must be positive and below a day, in seconds (got {given.timeout:g}).")
    if given.url is None:
        return
    try:
        address = urlsplit(given.url)
        host = address.hostname
    except ValueError as error:
        raise InputError(f"--url is not an address: {error}.") from error
    if address.scheme not in ("http", "https") or not host:
        raise InputError("--url must begin with http:// or https:// and name a host.")
    if key(given) is not None and address.scheme == "http" and not is_here(host):
        raise InputError("A key is sent over https or to this machine only: give an https:// address.")


def is_here(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False


def key(given: argparse.Namespace) -> str | None:
    """The key of the endpoint, or None.

    Raises:
        InputError: The variable is not set, or does not hold a key.
    """
    if given.key_variable is None:
        return None
    value = os.environ.get(given.key_variable, "").strip()
    if not value or not value.isascii() or not value.isprintable():
        raise InputError(f"The environment variable {given.key_variable} does not hold a key: set it.")
    return value


def fill(kind: str, run: Path, method: Path) -> str:
    """The prompt of a kind, filled from a run.

    Raises:
        InputError: The run lacks a file, or a file cannot be read.
    """
    parts = FILLERS[kind](run, method)
    return PLACE.sub(lambda place: parts[place[1]], text_of(PROMPTS / f"{kind}.md"))


def single(run: Path, method: Path) -> Mapping[str, str]:
    """Report and milestones of the only model of a run."""
    report, *others = reports_of(run)
    if others:
        raise InputError(f"{run} has several models: judge them with cross.")
    document = run / f"output-{report.stem.removeprefix('evaluation-')}.json"
    content: Any = parse_json(read_text(document, MAX_DOCUMENT_BYTES), str(document), "read the prompts again")
    try:
        found = [{name: entry[name] for name in MILESTONE_KEYS} for entry in content["diagnostics"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{document} was not written by `logos-pl predict`: read the prompts again.") from error
    return {"report": fenced(text_of(report)), "milestones": fenced(json.dumps(found, ensure_ascii=False))}


def cross(run: Path, method: Path) -> Mapping[str, str]:
    """Comparison and reports of several models."""
    comparison = run / "evaluation-cross-models.md"
    if not comparison.is_file():
        raise InputError(f"{run} has no evaluation-cross-models.md: read several models with `--models`.")
    return {"comparison": fenced(text_of(comparison)), "reports": all_reports(run)}


def meta(run: Path, method: Path) -> Mapping[str, str]:
    """Description of the method, and all reports of a run."""
    return {"method": fenced(text_of(method)), "reports": all_reports(run)}


FILLERS: Mapping[str, Callable[[Path, Path], Mapping[str, str]]] = {"single": single, "cross": cross, "meta": meta}


def reports_of(run: Path) -> list[Path]:
    """Reports of the models of a run.

    Raises:
        InputError: There is none.
    """
    found = sorted(path for path in run.glob("evaluation-*.md") if path.name != "evaluation-cross-models.md")
    if not found:
        raise InputError(f"{run} has no evaluation-….md: give the folder that `logos-pl predict` has written.")
    return found


def all_reports(run: Path) -> str:
    """All reports, one after the other."""
    return fenced("\n\n".join(map(text_of, reports_of(run))))


def text_of(path: Path) -> str:
    """Text of a file.

    Raises:
        InputError: It is missing, not a regular file, too large or not UTF-8.
    """
    try:
        return read_text(path, MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: name a file that does.") from error


def fenced(text: str) -> str:
    """The text without anything that could end the element of the prompt that it stands in."""
    return re.sub(r"<(?=/?(?:report|reports|milestones|comparison|method)\b)", "&lt;", text, flags=re.IGNORECASE)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: the key is for the address that was given."""

    def redirect_request(self, *_: Any) -> None:
        """Follow nothing."""


def post(url: str, body: Mapping[str, Any], timeout: float, secret: str | None) -> str:
    """The endpoint's answer.

    Raises:
        RunError: It cannot be reached, refuses, takes too long, or does not answer as chat completions do.
    """
    headers = {"Content-Type": "application/json"} | ({} if secret is None else {"Authorization": f"Bearer {secret}"})
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    host = urlsplit(url).hostname
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout) as response:
            data = _body(response, time.monotonic() + timeout)
    except urllib.error.HTTPError as error:
        raise RunError(f"{host} answers with status {error.code}: check --url, --judge and the key.") from error
    except TimeoutError as error:
        raise RunError(f"{host} has not answered in {timeout:g} s: give a longer --timeout.") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise RunError(f"{host} cannot be reached ({type(reason).__name__}): check --url.") from error
    if len(data) > MAX_ANSWER_BYTES:
        raise RunError(f"{host} answers with more than {MAX_ANSWER_BYTES // MIB} MiB: check --url.")
    return _content(data, str(host))


def _body(response: Any, deadline: float) -> bytes:
    """Body of an answer, up to a byte more than is accepted.

    Raises:
        TimeoutError: The deadline has passed: an answer that drips would never end otherwise.
    """
    data = b""
    while len(data) <= MAX_ANSWER_BYTES and (piece := response.read1(2**16)):
        data += piece
        if time.monotonic() > deadline:
            raise TimeoutError
    return data


def _content(data: bytes, host: str) -> str:
    """Text of the answer.

    Raises:
        RunError: It is not that of chat completions.
    """
    try:
        content = parse_json(data.decode(), "the answer")["choices"][0]["message"]["content"]
    except (UnicodeDecodeError, KeyError, IndexError, TypeError, InputError) as error:
        raise RunError(f"{host} does not answer as chat completions do: check --url.") from error
    if not isinstance(content, str):
        raise RunError(f"{host} answers without a text: check --url and --judge.")
    return content


if __name__ == "__main__":
    sys.exit(main())
