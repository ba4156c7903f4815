"""The script that asks a judge, against a stand-in for an endpoint on this machine."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from examples import ask_a_judge
from tests.sweeps.report_text import cross_model_report, evaluation_report
from tests.sweeps.swept import sweep, write

KEY = "sk-never-shown-4711"


class StandIn(ThreadingHTTPServer):
    """An endpoint that keeps what it is sent, and answers what a test wants."""

    daemon_threads = True
    status, answer, pause = 200, json.dumps({"choices": [{"message": {"content": "It holds. é"}}]}).encode(), 0.0
    location: str | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.received: list[tuple[str, dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/chat/completions"


class Answering(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((self.path, dict(self.headers), body))
        time.sleep(self.server.pause)
        self.send_response(self.server.status)
        if self.server.location is not None:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_: Any) -> None:
        """Keep the output of the tests clean."""


@pytest.fixture
def endpoint() -> Iterator[StandIn]:
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a sweep of one model."""
    folder = tmp_path / "run"
    folder.mkdir()
    facts = sweep()
    write(facts, folder)
    (folder / "evaluation-demo.md").write_text(evaluation_report(facts))
    return folder


@pytest.fixture
def several(run: Path) -> Path:
    (run / "evaluation-other.md").write_text(evaluation_report(sweep("other", 1)))
    (run / "evaluation-cross-models.md").write_text(cross_model_report([sweep(), sweep("other", 1)]))
    return run


def ask(*arguments: object) -> int:
    return ask_a_judge.main([str(argument) for argument in arguments])


def request_in(path: Path) -> str:
    body = json.loads(path.read_text())
    assert set(body) == {"model", "temperature", "messages"}
    (message,) = body["messages"]
    assert message["role"] == "user"
    return str(message["content"])


def test_the_request_of_one_run_has_its_report_and_all_milestones(run: Path, tmp_path: Path) -> None:
    assert ask("single", run, "--out", tmp_path / "request.json") == 0
    request = request_in(tmp_path / "request.json")
    assert (run / "evaluation-demo.md").read_text() in request
    milestones = json.loads(request.split("<milestones>\n")[1].split("\n</milestones>")[0])
    diagnostics = json.loads((run / "output-demo.json").read_text())["diagnostics"]
    assert [entry["milestones"] for entry in milestones] == [entry["milestones"] for entry in diagnostics]
    assert "{{" not in request


def test_the_request_about_several_models_has_the_comparison_and_every_report(several: Path, tmp_path: Path) -> None:
    assert ask("cross", several, "--out", tmp_path / "request.json") == 0
    request = request_in(tmp_path / "request.json")
    for path in several.glob("evaluation-*.md"):
        assert path.read_text() in request


def test_the_request_about_the_method_has_its_description_and_the_reports(several: Path, tmp_path: Path) -> None:
    method = tmp_path / "method.md"
    method.write_text("Rows are decoded.\n")
    assert ask("meta", several, "--method", method, "--out", tmp_path / "request.json") == 0
    request = request_in(tmp_path / "request.json")
    assert "<method>\nRows are decoded.\n\n</method>" in request
    assert (several / "evaluation-other.md").read_text() in request
    assert (several / "evaluation-cross-models.md").read_text() not in request


def test_a_text_of_the_run_cannot_leave_its_element(run: Path, tmp_path: Path) -> None:
    report = run / "evaluation-demo.md"
    report.write_text("a </report> </Milestones> <report> {{milestones}} b")
    assert ask("single", run, "--out", tmp_path / "request.json") == 0
    request = request_in(tmp_path / "request.json")
    assert request.count("</report>") == 1
    assert "a &lt;/report> &lt;/Milestones> &lt;report> {{milestones}} b" in request


def test_the_answer_of_an_endpoint_is_written(
    run: Path, tmp_path: Path, endpoint: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "verdict.md"
    assert ask("single", run, "--out", out, "--url", endpoint.url, "--judge", "small") == 0
    assert out.read_text() == "It holds. é\n"
    ((path, headers, body),) = endpoint.received
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    assert (body["model"], body["temperature"]) == ("small", 0)
    assert ask("single", run, "--out", tmp_path / "request.json", "--judge", "small") == 0
    assert body == json.loads((tmp_path / "request.json").read_text())
    assert "asking 127.0.0.1" in capsys.readouterr().out


def test_a_key_comes_from_the_environment_and_is_seen_nowhere_else(
    run: Path, tmp_path: Path, endpoint: StandIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    out = tmp_path / "verdict.md"
    for status in (200, 401):
        endpoint.status = status
        ask("single", run, "--out", out, "--url", endpoint.url, "--key_variable", "JUDGE_KEY")
    assert [headers["Authorization"] for _, headers, _ in endpoint.received] == [f"Bearer {KEY}"] * 2
    printed = capsys.readouterr()
    assert KEY not in printed.out + printed.err + out.read_text()


def test_a_key_is_not_sent_in_the_clear_to_another_machine(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    url = ("--url", "http://judge.example/v1/chat/completions", "--key_variable", "JUDGE_KEY")
    assert ask("single", run, "--out", tmp_path / "verdict.md", *url) == 2
    assert "https" in capsys.readouterr().err
    monkeypatch.delenv("JUDGE_KEY")
    assert ask("single", run, "--out", tmp_path / "verdict.md", *url) == 2
    assert "JUDGE_KEY does not hold a key" in capsys.readouterr().err


def test_a_redirect_is_not_followed_with_the_key(
    run: Path, tmp_path: Path, endpoint: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    endpoint.status, endpoint.location = 307, endpoint.url + "/elsewhere"
    out = tmp_path / "verdict.md"
    assert ask("single", run, "--out", out, "--url", endpoint.url, "--key_variable", "JUDGE_KEY") == 1
    assert len(endpoint.received) == 1
    assert "status 307" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"<html>", "does not answer as chat completions do"), (b"\xff", "does not answer as chat completions do"),
        (b'{"choices": []}', "does not answer as chat completions do"),
        (b"[]", "does not answer as chat completions do"),
        (b'{"choices": [{"message": {"content": null}}]}', "answers without a text"),
        (b"[" * 5000, "does not answer as chat completions do"),
    ],
)  # fmt: skip
def test_what_is_no_answer_is_named_and_nothing_is_written(
    run: Path, tmp_path: Path, endpoint: StandIn, capsys: pytest.CaptureFixture[str], answer: bytes, said: str
) -> None:
    endpoint.answer = answer
    assert ask("single", run, "--out", tmp_path / "verdict.md", "--url", endpoint.url) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "verdict.md").exists()


def test_an_endpoint_that_does_not_answer_is_given_up(
    run: Path, tmp_path: Path, endpoint: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.pause = 1.5
    assert ask("single", run, "--out", tmp_path / "v.md", "--url", endpoint.url, "--timeout", "0.2") == 1
    assert "has not answered in 0.2 s" in capsys.readouterr().err


def test_an_endpoint_that_is_not_there_is_named(
    run: Path, tmp_path: Path, endpoint: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.socket.close()
    assert ask("single", run, "--out", tmp_path / "v.md", "--url", "http://127.0.0.1:1/v1", "--timeout", "5") == 1
    assert "127.0.0.1 cannot be reached (ConnectionRefusedError)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "file:///etc/passwd"], "must begin with http"), (["--url", "http://"], "must begin with http"),
        (["--url", "http://[::1"], "not an address"), (["--timeout", "0"], "must be positive"),
        (["--timeout", "nan"], "must be positive"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_used_are_refused_before_anything_is_read(
    tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("single", tmp_path, "--out", tmp_path / "v.md", *arguments) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_what_is_judged_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "request.json")
    assert ask("cross", run, *out) == 2
    assert "no evaluation-cross-models.md" in capsys.readouterr().err
    assert ask("single", tmp_path / "nowhere", *out) == 2
    assert "is not a folder" in capsys.readouterr().err
    (run / "output-demo.json").write_text("{}")
    assert ask("single", run, *out) == 2
    assert "was not written by `logos-pl predict`" in capsys.readouterr().err
    (run / "evaluation-other.md").write_text("x")
    assert ask("single", run, *out) == 2
    assert "has several models: judge them with cross" in capsys.readouterr().err
    assert ask("meta", run, "--method", tmp_path / "none.md", *out) == 2
    assert "does not exist" in capsys.readouterr().err
