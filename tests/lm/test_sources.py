"""What the Hub, the disk and the network can answer, each told to the user in one sentence."""

import errno
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from logos_pl.errors import InputError, LogosError, RunError
from logos_pl.lm import sources
from logos_pl.lm.sources import clean_name, explain, files_digest, locate

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub(BaseHTTPRequestHandler):
    """Answers as the Hub does, by status and by the header that names the reason."""

    def do_HEAD(self) -> None:
        for part, (status, code) in {
            "org/gated": (403, "GatedRepo"),
            "org/unknown": (401, "RepoNotFound"),
            "resolve/nowhere": (404, "RevisionNotFound"),
            "org/bare": (404, "EntryNotFound"),
        }.items():
            if part in self.path:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                break
        else:
            self.send_response(200)
            self.send_header("ETag", '"abc"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "2")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"

    def download(model_id: str, filename: str, revision: str | None) -> str:
        return huggingface_hub.hf_hub_download(
            model_id, filename, revision=revision, endpoint=endpoint, cache_dir=tmp_path, token=False
        )

    monkeypatch.setattr(sources, "hf_hub_download", download)
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("model_id", "revision", "message"),
    [
        ("org/gated", None, "org/gated is gated and this machine has no access; accept its licence at "),
        (
            "org/unknown",
            None,
            "there is no model 'org/unknown' on the Hub that this machine may see; check",
        ),
        ("org/model", "nowhere", "org/model has no revision 'nowhere'; give a branch, tag or commit"),
        ("org/bare", None, "org/bare has no config.json on the Hub"),
        ("a b", None, "'a b' is not a model id; give `organisation/name`, a folder or `demo`."),
    ],
)
def test_each_refusal_of_the_hub_has_its_sentence(model_id: str, revision: str | None, message: str) -> None:
    with pytest.raises(InputError) as caught:
        locate(model_id, revision)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


@pytest.mark.usefixtures("hub")
def test_a_model_of_the_hub_is_pinned_to_its_commit() -> None:
    source = locate("org/model")
    assert (source.model_id, source.place, source.commit) == ("org/model", "org/model", COMMIT)
    assert source.folder is None
    assert sources.model_commit(source) == sources.tokenizer_commit(source) == COMMIT


def test_offline_mode_and_a_missing_network_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: object, **kwargs: object) -> str:
        raise LocalEntryNotFoundError("not found") from cause

    monkeypatch.setattr(sources, "hf_hub_download", download)
    cause: Exception = OfflineModeIsEnabled("offline")
    with pytest.raises(InputError, match="not in the local cache and offline mode is on; unset HF_HUB_OFFLINE"):
        locate("org/model")
    cause = ConnectionError("no route")
    with pytest.raises(InputError, match="not in the local cache and the Hub cannot be reached; check the network"):
        locate("org/model")


def test_offline_mode_of_the_real_client_is_recognised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"org/absent is not in the local cache and"):
        locate("org/absent")


@pytest.mark.parametrize(
    ("code", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written"), (errno.EACCES, "cannot be written")],
)
def test_a_disk_that_refuses_is_a_failure_of_the_run_not_of_the_input(code: int, words: str) -> None:
    wrapped = OSError("could not fetch")
    wrapped.__cause__ = OSError(code, "disk")
    error: LogosError = explain(wrapped, "org/model")
    assert isinstance(error, RunError)
    assert words in str(error)


def test_anything_else_keeps_its_first_line() -> None:
    assert str(explain(OSError("odd thing.\nmore"), "org/model")) == "org/model cannot be loaded: odd thing."


@pytest.mark.parametrize("place", ["/no/such/folder", "./nowhere", "~/nowhere_at_all", "a/b/c"])
def test_a_path_that_is_no_folder_is_not_looked_for_on_the_hub(place: str) -> None:
    with pytest.raises(InputError, match=r"is not a folder; give a folder with a model's files, a Hub id or `demo`"):
        locate(place)


def test_a_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no config.json; give the folder that holds a model's files"):
        locate(str(tmp_path))


def test_a_folder_is_filed_under_its_name_and_hashed(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "tokenizer.json").write_text("[]")
    source = locate(str(folder))
    assert (source.model_id, source.commit, source.folder) == ("my-model", None, folder)
    wanted = hashlib.sha256(b"config.json\x002\x00{}model.safetensors\x007\x00weights").hexdigest()
    before = sources.model_commit(source)
    assert before == f"sha256:{wanted}"
    tokenizer = sources.tokenizer_commit(source)
    (folder / "README.md").write_text("changes nothing")
    assert sources.model_commit(source) == before
    (folder / "model.safetensors").write_bytes(b"Weights")
    assert sources.model_commit(source) != before
    assert sources.tokenizer_commit(source) == tokenizer


def test_moving_bytes_between_files_changes_the_digest(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"xy")
    (tmp_path / "b.bin").write_bytes(b"z")
    before = files_digest(tmp_path, ("*.bin",))
    (tmp_path / "a.bin").write_bytes(b"x")
    (tmp_path / "b.bin").write_bytes(b"yz")
    assert files_digest(tmp_path, ("*.bin",)) != before


@pytest.mark.parametrize(("text", "words"), [("{", "cannot be read"), ("[]", "is not a JSON object")])
def test_a_configuration_that_is_no_json_object_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=words):
        sources.read_config_dict(locate(str(tmp_path)))


@pytest.mark.parametrize(("model_id", "name"), [("org/model-7b", "model-7b"), ("gpt2", "gpt2"), ("org/m/", "m")])
def test_the_clean_name_is_the_last_part(model_id: str, name: str) -> None:
    assert clean_name(model_id) == name
