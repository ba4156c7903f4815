"""A Hub on loopback: what huggingface_hub asks for when it publishes and fetches, over real HTTP, kept in memory.

Files of some kinds go through LFS, as there: the batch request, a PUT to a storage of its own, a commit that names the
hash; and come from it, by a redirect. Connections can be cut in the middle of either.
"""

import base64
import hashlib
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

WRITER, READER = "hf_writer", "hf_reader"
LFS_KINDS = (".pt", ".png", ".safetensors")


@dataclass
class Commit:
    oid: str
    files: dict[str, bytes]


@dataclass
class Repo:
    """A repository: commits from the first to the newest, tags, and who may see it."""

    commits: list[Commit]
    tags: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False
    card: dict[str, Any] = field(default_factory=dict)

    def at(self, revision: str) -> Commit | None:
        wanted = self.tags.get(revision, revision)
        if wanted == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit.oid == wanted), None)

    def commit(self, files: dict[str, bytes], message: str = "") -> Commit:
        content = repr([len(self.commits), message, sorted(files.items())]).encode()
        self.commits.append(Commit(hashlib.sha1(content).hexdigest(), files))
        return self.commits[-1]


class Hub:
    """The state of all, what was asked, and what is to go wrong.

    Attributes:
        repos: By ``datasets/<id>`` or ``models/<id>``.
        lfs: The storage, by SHA-256.
        requests: Every request: method and path.
        cut_uploads: Uploads to the storage that are cut off after half, before one is let through.
        cut_downloads: Downloads from the storage that are.
        refuse_tags: Requests for a tag that fail.
        resumed: Downloads that went on behind what had come already.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.cut_uploads = self.cut_downloads = self.refuse_tags = self.resumed = 0
        self.url = ""

    @property
    def storage_url(self) -> str:
        """Another host, as there: a client follows a redirect on the same host before it looks at the headers."""
        return self.url.replace("127.0.0.1", "localhost")

    def add(self, name: str, files: dict[str, bytes], **more: Any) -> Repo:
        repo = self.repos[name] = Repo([], **more)
        repo.commit(files)
        for path, data in files.items():
            if path.endswith(LFS_KINDS):
                self.lfs[hashlib.sha256(data).hexdigest()] = data
        return repo

    def files(self, repo_id: str) -> dict[str, bytes]:
        """The newest files of a data set."""
        return self.repos[f"datasets/{repo_id}"].commits[-1].files

    def fetched(self) -> set[str]:
        """Paths whose content or metadata were asked for since the log was cleared."""
        return {path.split("/resolve/")[1].partition("/")[2] for _, path in self.requests if "/resolve/" in path}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub  # set on the subclass of each server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._route()

    def do_HEAD(self) -> None:
        self._route()

    def do_POST(self) -> None:
        self._route()

    def do_PUT(self) -> None:
        length = int(self.headers["Content-Length"])
        if self.hub.cut_uploads > 0:
            self.hub.cut_uploads -= 1
            self.rfile.read(length // 2)
            self.hub.requests.append(("PUT", "cut"))
            self.close_connection = True
            self.connection.close()
            return
        data = self.rfile.read(length)
        self.hub.requests.append(("PUT", self.path))
        self.hub.lfs[hashlib.sha256(data).hexdigest()] = data
        self._send(200, b"", {"ETag": '"1"'})

    def _route(self) -> None:
        path = urllib.parse.unquote(self.path.split("?")[0])
        self.hub.requests.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if (token := self.headers.get("Authorization")) not in (None, f"Bearer {WRITER}", f"Bearer {READER}"):
            return self._error(401, "", "Invalid credentials in Authorization header")
        if path == "/api/whoami-v2":
            return self._json({"name": "somebody", "type": "user"}) if token else self._error(401, "", "No token")
        if path == "/api/validate-yaml":
            return self._validate(json.loads(body))
        if path.startswith("/storage/"):
            return self._stored(path.removeprefix("/storage/"))
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        api = re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(\w+)(?:/(.*))?)?", path)
        if api is not None:
            return self._api(f"{api[1]}/{api[2]}", api[3] or "revision", api[4] or "main", body)
        batch = re.fullmatch(r"/datasets/(.+)\.git/info/lfs/objects/batch", path)
        if batch is not None:
            return self._batch(json.loads(body)["objects"])
        file = re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if file is not None:
            return self._resolve(("datasets/" if file[1] else "models/") + file[2], file[3], file[4])
        return self._error(404, "RepoNotFound", "Repository not found")

    def _validate(self, given: dict[str, str]) -> None:
        """The Hub's own validator, as far as it is known: the front matter is a mapping, its licence has an address."""
        metadata = yaml.safe_load(given["content"].split("---\n")[1])
        errors = [] if isinstance(metadata, dict) else [{"message": "metadata must be an object"}]
        if not errors and metadata.get("license") == "other" and not metadata.get("license_link"):
            errors = [{"message": '"license_link" is required for license: other'}]
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _create(self, given: dict[str, Any]) -> None:
        if not self._may_write():
            return None
        name = f"datasets/{given['organization']}/{given['name']}"
        if name in self.hub.repos:
            return self._error(409, "", "You already created this dataset repo")
        private = given.get("visibility") == "private" or bool(given.get("private"))
        self.hub.add(name, {".gitattributes": b"*.pt filter=lfs\n"}, private=private)
        self._json({"url": f"{self.hub.url}/{name}"})
        return None

    def _api(self, name: str, what: str, revision: str, body: bytes) -> None:
        repo = self._repo(name)
        if repo is None:
            return None
        if what == "refs":
            tags = [{"name": t, "ref": f"refs/tags/{t}", "targetCommit": oid} for t, oid in repo.tags.items()]
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.commits[-1].oid}
            return self._json({"branches": [main], "converts": [], "tags": tags})
        commit = repo.at(revision.split("/")[0])
        if commit is None:
            return self._error(404, "RevisionNotFound", "Invalid rev id")
        if what == "revision":
            siblings = [{"rfilename": path} for path in commit.files]
            about = {"id": name.partition("/")[2], "sha": commit.oid, "private": repo.private, "siblings": siblings}
            return self._json(about | {"cardData": repo.card} if repo.card else about)
        if what == "tree":
            entries = [{"type": "file", "path": p, "size": len(d), "oid": "0" * 40} for p, d in commit.files.items()]
            return self._json(entries)
        if not self._may_write():
            return None
        if what == "commit":
            return self._commit(name, commit, body)
        return self._preupload(body) if what == "preupload" else self._tag(repo, commit, body)

    def _preupload(self, body: bytes) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LFS_KINDS) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._json({"files": files})

    def _batch(self, objects: list[dict[str, Any]]) -> None:
        if not self._may_write():
            return
        answers = [
            {"oid": o["oid"], "size": o["size"]}
            if o["oid"] in self.hub.lfs
            else {**o, "actions": {"upload": {"href": f"{self.hub.storage_url}/storage/{o['oid']}"}}}
            for o in objects
        ]
        self._json({"transfer": "basic", "objects": answers})

    def _commit(self, name: str, commit: Commit, body: bytes) -> None:
        header, *operations = [json.loads(line) for line in body.splitlines()]
        if header["value"].get("parentCommit", commit.oid) != commit.oid:
            return self._error(412, "", "A commit has happened since. Please refresh and try again.")
        files = dict(commit.files)
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            else:
                del files[value["path"]]
        new = self.hub.repos[name].commit(files, header["value"]["summary"])
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{new.oid}", "commitOid": new.oid})
        return None

    def _tag(self, repo: Repo, commit: Commit, body: bytes) -> None:
        tag = json.loads(body)["tag"]
        if self.hub.refuse_tags > 0:
            self.hub.refuse_tags -= 1
            return self._error(500, "", "Internal error")
        if tag in repo.tags:
            return self._error(409, "", "Tag reference exists already")
        repo.tags[tag] = commit.oid
        self._json({})
        return None

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return None
        if repo.gated:
            return self._error(403, "GatedRepo", "Access is restricted")
        commit = repo.at(revision)
        if commit is None:
            return self._error(404, "RevisionNotFound", "Invalid rev id")
        if path not in commit.files:
            return self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit.oid})
        data = commit.files[path]
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        if not path.endswith(LFS_KINDS):
            return self._send(200, data, headers)
        oid = hashlib.sha256(data).hexdigest()
        headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(data))}
        self._send(302, b"", headers | {"Location": f"{self.hub.storage_url}/storage/{oid}"})
        return None

    def _stored(self, oid: str) -> None:
        data, asked, status = self.hub.lfs[oid], self.headers.get("Range"), 200
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{oid}"'}
        if asked is not None:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            self.hub.resumed += first != "0"
            end = int(last) + 1 if last else len(data)
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(data)}"
            data, status = data[int(first) : end], 206
        cut = self.command == "GET" and self.hub.cut_downloads > 0
        if cut:
            self.hub.cut_downloads -= 1
        self._send(status, data, headers, cut=cut)

    def _repo(self, name: str) -> Repo | None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.headers.get("Authorization") is None):
            self._error(404 if self.headers.get("Authorization") else 401, "RepoNotFound", "Repository not found")
            return None
        return repo

    def _may_write(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {WRITER}":
            return True
        self._error(403 if self.headers.get("Authorization") else 401, "", "You don't have the rights")
        return False

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message} | (headers or {}))

    def _json(self, value: object, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: bool = False) -> None:
        self.send_response(status)
        for key, value in headers.items():
            if value:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.close_connection = True
            self.connection.close()


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """The address of a hub, for as long as it is needed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub.url
    finally:
        server.shutdown()
        server.server_close()
