"""A few lines of HTTP that answer like the Hub: one readable dataset, a gated one, and 404 for all others."""

import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
README = b"""---
configs:
- config_name: small
  data_files:
  - split: train
    path: data/small/*.parquet
- config_name: other
  data_files:
  - split: train
    path: data/other/*.parquet
---
"""


class FakeHub(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    files: dict[str, bytes] = {}  # noqa: RUF012 - set on the subclass of each test

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._answer(self.rfile.read(length).decode())

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, body: str = "") -> None:
        path = self.path.split("?")[0]
        if "/org/gated" in path:
            if path.startswith("/api/datasets/org/gated") and "/tree/" not in path and "paths-info" not in path:
                return self._json({"id": "org/gated", "sha": COMMIT, "gated": "manual", "siblings": []})
            return self._send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
        if "/org/open" not in path:
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        if "no-such-revision" in path:
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        if path.startswith("/api/datasets/org/open/tree/"):
            return self._json(self._tree(path.split("/tree/")[1].partition("/")[2]))
        if path.startswith("/api/datasets/org/open/paths-info/"):
            return self._json(self._paths(body))
        if path.startswith("/api/datasets/org/open"):
            return self._json(
                {"id": "org/open", "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
            )
        name = path.partition("/resolve/")[2].partition("/")[2]
        if name not in self.files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
        return self._file(self.files[name])

    def _entry(self, name: str) -> dict:
        if name in self.files:
            return {"type": "file", "path": name, "size": len(self.files[name]), "oid": "0" * 40}
        return {"type": "directory", "path": name, "size": 0, "oid": "0" * 40}

    def _tree(self, folder: str) -> list[dict]:
        recursive = "recursive=true" in self.path.lower()
        folder = folder.replace("%2F", "/").strip("/")
        inside = [name for name in self.files if not folder or name.startswith(folder + "/")]
        depth = len(folder.split("/")) if folder else 0
        names: set[str] = set()
        for name in inside:
            parts = name.split("/")
            ends = range(depth + 1, len(parts) + 1) if recursive else [depth + 1]
            names.update("/".join(parts[:end]) for end in ends)
        return [self._entry(name) for name in sorted(names)]

    def _paths(self, body: str) -> list[dict]:
        try:
            paths = json.loads(body)["paths"]
        except json.JSONDecodeError:
            paths = urllib.parse.parse_qs(body).get("paths", [])
        folders = {"/".join(name.split("/")[:end]) for name in self.files for end in range(1, name.count("/") + 1)}
        return [self._entry(path) for path in paths if path in self.files or path in folders]

    def _file(self, data: bytes) -> None:
        headers = {"X-Repo-Commit": COMMIT, "ETag": '"0"', "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        if asked is None:
            return self._send(200, data, headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = data[int(first) : int(last) + 1 if last else None]
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        return self._send(206, part, headers)

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def fake_hub(files: dict[str, bytes]) -> Iterator[str]:
    """The address of a Hub that has dataset org/open with these files (and a README) and the gated org/gated."""
    handler = type("Hub", (FakeHub,), {"files": {"README.md": README, **files}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
