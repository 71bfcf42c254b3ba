"""A stub of the Hub: a small server on the loopback interface."""

import base64
import hashlib
import io
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from huggingface_hub import ModelCard

LARGE = (".bin", ".pth", ".safetensors")  # what the Hub stores elsewhere


class StubHub(ThreadingHTTPServer):
    """As much of huggingface.co as uploading and downloading a model takes, and reading a dataset.

    A dataset is a repository whose id begins with `datasets/`.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _StubHubHandler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, dict[str, bytes | Path]] = {}  # id -> path -> content, or the file that has it
        self.large_files: dict[str, bytes] = {}  # sha256 -> content
        self.num_commits = 0
        self.tokens: set[str] = set()  # that came with anything that writes
        self.requests: list[str] = []
        self.unknown: list[str] = []  # requests that have no answer here
        self.refused: dict[str, tuple[int, str]] = {}  # id -> status and error code of all that is asked of it
        self.cut_off: set[str] = set()  # paths of files whose connection breaks in the middle
        self.troubles: list[
            int | None
        ] = []  # what happens to the next writing requests: a status, or no answer at all

    @property
    def commit(self) -> str:
        return f"{self.num_commits:040x}"

    def publish(self, repository: str, folder: Path) -> None:
        """Serve the files of a folder as a repository."""
        files = [file for file in folder.rglob("*") if file.is_file()]
        self.repositories[repository] = {file.relative_to(folder).as_posix(): file for file in files}


class _StubHubHandler(BaseHTTPRequestHandler):
    server: StubHub
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        path, body = self._path(), self._body()
        self.server.tokens.add(self.headers.get("Authorization"))
        if self._in_trouble():
            return
        if path == "/api/repos/create":
            name = "/".join(filter(None, (body["organization"], body["name"])))
            self.server.repositories.setdefault(name, {})
            self._json({"url": f"{self.server.endpoint}/{name}", "name": name, "id": name})
        elif path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            modes = [
                (file["path"], "lfs" if file["path"].endswith(".safetensors") else "regular") for file in body["files"]
            ]
            self._json({"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes]})
        elif path.endswith("/info/lfs/objects/batch"):
            self._json({"transfer": "basic", "objects": [self._upload_action(item) for item in body["objects"]]})
        elif "/commit/" in path:
            self._commit(path, body)
        else:
            self._unknown()

    def do_PUT(self):
        content = self._body()
        if not self._in_trouble():
            self.server.large_files[self._path().rpartition("/")[2]] = content
            self._answer(200)

    def do_GET(self):
        path = self._path()
        self.server.requests.append(f"{self.command} {path}")
        repository = _repository(path)
        asked = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        if asked in self.server.refused:
            status, code = self.server.refused[asked]
            self._answer(status, {"X-Error-Code": code})
        elif "/resolve/" in path:
            self._file(path)
        elif path.startswith("/storage/"):
            repository, _, name = path.removeprefix("/storage/").partition("/blob/")
            self._send(name, self.server.repositories[repository][name], {})
        elif "/tree/" in path:
            self._json(
                _entries(self.server.repositories[repository], below=path.partition("/tree/")[2].partition("/")[2])
            )
        elif path.startswith("/api/") and repository in self.server.repositories:
            files = self.server.repositories[repository]
            card = files.get("README.md")
            tag = None if card is None else ModelCard(_read(card).decode()).data.pipeline_tag
            siblings = [{"rfilename": name} for name in files]
            info = {"_id": "0", "id": repository, "sha": self.server.commit, "siblings": siblings}
            self._json({**info, "library_name": "transformers", "pipeline_tag": tag})
        elif path.startswith("/api/models/") and path.count("/") == 4:
            self._answer(404, {"X-Error-Code": "RepoNotFound"})
        else:
            self._unknown()

    do_HEAD = do_GET

    def _in_trouble(self) -> bool:
        """Answer a request with the next trouble, if there is one: an error, or a connection that is cut."""
        if not self.server.troubles:
            return False
        status = self.server.troubles.pop(0)
        if status is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self._answer(status, {"Retry-After": "0"})
        return True

    def _upload_action(self, item: dict) -> dict:
        href = f"{self.server.endpoint}/upload/{item['oid']}"
        return {**item, "actions": {"upload": {"href": href}}}

    def _commit(self, path: str, operations: list[dict]):
        repository = path.removeprefix("/api/models/").partition("/commit/")[0]
        files = self.server.repositories[repository]
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.server.large_files[value["oid"]]
        self.server.num_commits += 1
        url = f"{self.server.endpoint}/{repository}/commit/{self.server.commit}"
        self._json({"commitUrl": url, "commitOid": self.server.commit})

    def _file(self, path: str):
        repository, _, rest = path[1:].partition("/resolve/")
        revision, _, name = rest.partition("/")
        content = self.server.repositories.get(repository, {}).get(name)
        headers = {"X-Repo-Commit": revision if len(revision) == 40 else self.server.commit}
        if content is None:
            missing = "EntryNotFound" if repository in self.server.repositories else "RepoNotFound"
            self._answer(404, {**headers, "X-Error-Code": missing})
        elif name.endswith(LARGE):  # lies on another host, which knows nothing of commits
            place = f"http://localhost:{self.server.server_port}/storage/{repository}/blob/{name}"
            linked = {"X-Linked-ETag": _etag(content), "X-Linked-Size": _size(content), "Location": place}
            self._answer(302, {**headers, **linked})
        else:
            self._send(name, content, {**headers, "ETag": _etag(content)})

    def _send(self, name: str, content: bytes | Path, headers: dict):
        """Send a file or the range of it that is asked for, or hang up in the middle of one that shall be cut off."""
        size = _size(content)
        start, end = 0, size
        if asked := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            start, end = int(asked[1]), min(int(asked[2]) + 1, size)
            headers = {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}
        self._answer(206 if asked else 200, headers, length=end - start)
        if self.command == "HEAD":
            return
        left = size // 2 if name in self.server.cut_off else end - start
        with io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb") as file:
            file.seek(start)
            while left > 0 and (part := file.read(min(left, 2**20))):
                self.wfile.write(part)
                left -= len(part)
        self.close_connection |= name in self.server.cut_off

    def _path(self) -> str:
        return unquote(urlsplit(self.path).path)

    def _body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = self.headers.get("Content-Type", "")
        if "ndjson" in kind:
            return [json.loads(line) for line in content.splitlines()]
        return json.loads(content) if "json" in kind else content

    def _json(self, value):
        self._answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _unknown(self):
        self.server.unknown.append(f"{self.command} {self.path}")
        self._answer(404)

    def _answer(self, status: int, headers: dict | None = None, content: bytes = b"", length: int | None = None):
        """Send an answer with its content, or all but a content of another length."""
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": len(content) if length is None else length}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


def _repository(path: str) -> str:
    """The repository of a request to the API: `/api/models/me/encoder/tree/main` is of `me/encoder`."""
    name = path.removeprefix("/api/models/").removeprefix("/api/")
    return re.split("/(?:revision|tree)/", name)[0]


def _entries(files: dict[str, bytes | Path], below: str) -> list[dict]:
    """What the Hub says of all files and folders below a folder; of the repository for an empty name."""
    folders = {str(folder) for name in files for folder in PurePosixPath(name).parents} - {"."}
    entries = [{"type": "file", "path": name, "size": _size(files[name]), "oid": "0"} for name in files]
    entries += [{"type": "directory", "path": folder, "oid": "0"} for folder in sorted(folders)]
    return [entry for entry in entries if entry["path"].startswith(f"{below}/" if below else "")]


def _read(content: bytes | Path) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _size(content: bytes | Path) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _etag(content: bytes | Path) -> str:
    """Of a file, which is not read for it, the digest of its path and size."""
    known = content if isinstance(content, bytes) else f"{content} {_size(content)}".encode()
    return f'"{hashlib.sha256(known).hexdigest()}"'


@contextmanager
def running_hub() -> Iterator[StubHub]:
    """A stub Hub without repositories, in a thread of its own."""
    server = StubHub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def use_hub(hub: StubHub, cache: Path, monkeypatch) -> None:
    """Let this Python take the stub for the Hub, with a cache of its own, for the time of a test."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _cache_assets
    from transformers.utils import hub as hub_of_transformers

    for name, value in {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache / "hub"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setattr(_cache_assets, "HF_ASSETS_CACHE", str(cache / "assets"))
    monkeypatch.setattr(hub_of_transformers, "_hf_api", None)  # which knows an endpoint
    monkeypatch.setenv("DISABLE_SAFETENSORS_CONVERSION", "true")  # else transformers asks another server for one


def hub_environment(hub: StubHub) -> dict[str, str]:
    """Variables with which another Python takes the stub for the Hub."""
    environment = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": "hf_stub", "HF_HUB_DISABLE_XET": "1"}
    hosts = "127.0.0.1,localhost"
    environment |= {"NO_PROXY": hosts, "no_proxy": hosts, "DISABLE_SAFETENSORS_CONVERSION": "true"}
    return {**environment, "HF_HUB_DISABLE_TELEMETRY": "1"}
