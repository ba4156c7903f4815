"""A Hub on this machine: repositories of a few files, branches that move, refusals by header, and silence."""

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from logos_pl.lm import sources

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REFUSALS = {
    "org/gated": (403, "GatedRepo"),
    "org/unknown": (401, "RepoNotFound"),
    "resolve/nowhere": (404, "RevisionNotFound"),
    "org/bare": (404, "EntryNotFound"),
    "org/down": (503, ""),
}


class HubStandIn:
    """Repositories by id, each with folders by commit and a branch ``main``; in reach of the real client.

    Attributes:
        commits: Folder of files by repository and commit.
        main: The commit that ``main`` of a repository stands for.
        requests: Method and path of every request.
        silent: Whether it takes requests and never answers.
    """

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, Path]] = {"org/model": {}}
        self.main: dict[str, str] = {"org/model": COMMIT}
        self.requests: list[str] = []
        self.silent = False
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                stand_in.answer(self)

            def do_GET(self) -> None:
                stand_in.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def reach(self, patch: pytest.MonkeyPatch, cache: Path, endpoint: str | None = None) -> None:
        """Let the real client ask this Hub, or whatever is at ``endpoint``, with a cache of its own."""
        patch.setattr(constants, "ENDPOINT", endpoint or self.endpoint)
        patch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            (endpoint or self.endpoint) + "/{repo_id}/resolve/{revision}/{filename}",
        )
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        sources.forget()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.requests.append(f"{request.command} {request.path}")
        while self.silent:
            time.sleep(0.05)
        refusal = next((found for part, found in REFUSALS.items() if part in request.path), None)
        body, headers = b"{}", {"ETag": '"abc"', "X-Repo-Commit": COMMIT}
        status = 200
        if refusal is not None:
            status, headers["X-Error-Code"] = refusal
        elif request.path.startswith("/api/models/"):
            repo, _, commit = request.path.removeprefix("/api/models/").split("?")[0].partition("/tree/")
            listing: list[dict[str, Any]] = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": _etag(path)}
                for path in sorted(self.commits[repo][commit].iterdir())
            ]
            body = json.dumps(listing).encode()
        else:
            repo, _, rest = request.path[1:].partition("/resolve/")
            revision, _, name = rest.partition("/")
            commit = self.main[repo] if revision == "main" else revision
            headers["X-Repo-Commit"] = commit
            if commit in self.commits[repo]:
                path = self.commits[repo][commit] / name
                if path.exists():
                    body, headers["ETag"] = path.read_bytes(), f'"{_etag(path)}"'
                else:
                    status, headers["X-Error-Code"] = 404, "EntryNotFound"
        request.send_response(status)
        for key, value in headers.items():
            request.send_header(key, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)

    def close(self) -> None:
        self.silent = False
        self.server.shutdown()
        self.server.server_close()


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()
