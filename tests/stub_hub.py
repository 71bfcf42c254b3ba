"""The Hub, played by a small server on the loopback interface."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch
from huggingface_hub import ModelCard


class StubHub(ThreadingHTTPServer):
    """As much of huggingface.co as uploading and downloading a model takes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _StubHubHandler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.repositories: dict[str, dict[str, bytes]] = {}  # id -> path -> content
        self.large_files: dict[str, bytes] = {}  # sha256 -> content
        self.num_commits = 0
        self.tokens: set[str] = set()  # that came with anything that writes
        self.requests: list[str] = []
        self.unknown: list[str] = []  # requests that have no answer here
        self.refused: dict[str, tuple[int, str]] = {}  # id -> status and error code of all that is asked of it
        self.cut_off: set[str] = set()  # paths of files whose connection breaks half-way

    @property
    def commit(self) -> str:
        return f"{self.num_commits:040x}"


class _StubHubHandler(BaseHTTPRequestHandler):
    server: StubHub
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        path, body = self._path(), self._body()
        self.server.tokens.add(self.headers.get("Authorization"))
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
        self.server.large_files[self._path().rpartition("/")[2]] = self._body()
        self._answer(200)

    def do_GET(self):
        path = self._path()
        self.server.requests.append(f"{self.command} {path}")
        repository = path.removeprefix("/api/models/").partition("/revision/")[0]
        asked = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        if asked in self.server.refused:
            status, code = self.server.refused[asked]
            self._answer(status, {"X-Error-Code": code})
        elif "/resolve/" in path:
            self._file(path)
        elif path.startswith("/api/models/") and repository in self.server.repositories:
            files = self.server.repositories[repository]
            tag = ModelCard(files["README.md"].decode()).data.pipeline_tag if "README.md" in files else None
            siblings = [{"rfilename": name} for name in files]
            info = {"_id": "0", "id": repository, "sha": self.server.commit, "siblings": siblings}
            self._json({**info, "library_name": "transformers", "pipeline_tag": tag})
        elif path.startswith("/api/models/") and path.count("/") == 4:
            self._answer(404, {"X-Error-Code": "RepoNotFound"})
        elif "/tree/" in path:
            repository = path.removeprefix("/api/models/").partition("/tree/")[0]
            files = self.server.repositories[repository]
            self._json([{"type": "file", "path": name, "size": len(files[name]), "oid": "0"} for name in files])
        else:
            self._unknown()

    do_HEAD = do_GET

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
        else:
            length = len(content) // 2 if name in self.server.cut_off else None
            self._answer(200, {**headers, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}, content, length)

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

    def _answer(self, status: int, headers: dict | None = None, content: bytes = b"", sent: int | None = None):
        """Send an answer, or hang up after so many bytes of its content."""
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:sent])
            self.close_connection |= sent is not None

    def log_message(self, *_):
        pass


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
    return {**environment, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def with_old_weight_norm(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names of weights as torch had them before 2.0 and the Hub's old checkpoints still do."""
    return {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): weight
        for name, weight in weights.items()
    }
