"""What a Hub does when files are pushed to it: repositories are made, large files come first by
their checksum, and one commit names them all. The requests that huggingface_hub makes without Xet.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml

if TYPE_CHECKING:
    from mirror import Mirror

LARGE = (".safetensors", ".gguf")  # kept outside git, as the Hub's .gitattributes say


@dataclass
class Repository:
    """A model repository or a Space: its files as of its last commit."""

    private: bool
    sdk: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=lambda: ["0" * 40])
    messages: list[str] = field(default_factory=list)

    @property
    def card_data(self) -> dict[str, Any]:
        header = self.files.get("README.md", b"").decode().split("---\n")
        return yaml.safe_load(header[1]) if len(header) > 2 else {}


class Uploads(BaseHTTPRequestHandler):
    """Answers to what changes something; `mirror.py` answers to the rest."""

    hub: Mirror

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        fault = self.hub.fault(path)
        length = int(self.headers.get("Content-Length") or 0)
        if fault and fault.cut is not None:
            self.rfile.read(fault.cut)
            self.close_connection = True
            self.connection.shutdown(2)
            return
        body = self.rfile.read(length)
        self.hub.written.append((self.command, path, body))
        if fault and fault.status:
            self.answer(fault.status, {"error": fault.error}, fault.headers)
        elif (
            self.headers.get("Authorization") != f"Bearer {self.hub.token}" and "/lfs/" not in path
        ):
            self.answer(401, {"error": "Invalid username or password."})
        else:
            self.route(path, body)

    do_PUT = do_POST

    def route(self, path: str, body: bytes) -> None:
        if path == "/api/repos/create":
            self.create(json.loads(body))
        elif path == "/api/validate-yaml":
            yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
            self.answer(200, {"errors": [], "warnings": []})
        elif match := re.fullmatch(r"/lfs/([0-9a-f]{64})", path):
            right = hashlib.sha256(body).hexdigest() == match[1]
            if right:
                self.hub.blobs[match[1]] = body
            self.answer(200 if right else 400, {})
        elif path == "/lfs-verify":
            self.answer(200 if json.loads(body)["oid"] in self.hub.blobs else 404, {})
        elif match := re.fullmatch(r"/(spaces/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self.batch(json.loads(body)["objects"])
        elif match := re.fullmatch(r"/api/(model|space)s/([^/]+/[^/]+)/(\w+)(/main)?", path):
            repository = self.hub.repositories.get((match[1], match[2]))
            if repository is None:
                self.answer(
                    404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
                )
            else:
                getattr(self, match[3])(repository, match[2], body)
        else:
            self.answer(404, {"error": "no such route"})

    def create(self, asked: Mapping[str, Any]) -> None:
        kind, name = asked.get("type") or "model", f"{asked['organization']}/{asked['name']}"
        url = f"{self.hub.url}/{'spaces/' if kind == 'space' else ''}{name}"
        if (kind, name) in self.hub.repositories:
            self.answer(409, {"url": url, "error": "You already created this repo"})
        else:
            private = asked.get("visibility") == "private"
            self.hub.repositories[kind, name] = Repository(private, asked.get("sdk"))
            self.answer(200, {"url": url, "name": name, "id": name})

    def preupload(self, repository: Repository, name: str, body: bytes) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": _oid(file["path"], repository.files.get(file["path"])),
            }
            for file in json.loads(body)["files"]
        ]
        self.answer(200, {"files": files})

    def batch(self, objects: list[dict[str, Any]]) -> None:
        found = []
        for each in objects:
            entry: dict[str, Any] = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.hub.blobs:
                upload = {"href": f"{self.hub.url}/lfs/{each['oid']}"}
                verify = {"href": f"{self.hub.url}/lfs-verify"}
                entry["actions"] = {"upload": upload, "verify": verify}
            found.append(entry)
        self.answer(200, {"transfer": "basic", "objects": found})

    def commit(self, repository: Repository, name: str, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        values = [(line["key"], line["value"]) for line in lines]
        header = values[0][1]
        if header.get("parentCommit") not in (None, repository.commits[-1]):
            self.answer(412, {"error": "A commit has happened since."})
            return
        files = dict(repository.files)
        for key, value in values[1:]:
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            else:
                assert key == "deletedFile"
                del files[value["path"]]
        repository.files = files
        repository.messages.append(header["summary"])
        oid = hashlib.sha1(body + repository.commits[-1].encode()).hexdigest()
        repository.commits.append(oid)
        url = f"{self.hub.url}/{name}/commit/{oid}"
        self.answer(200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def settings(self, repository: Repository, name: str, body: bytes) -> None:
        repository.private = json.loads(body)["visibility"] == "private"
        self.answer(200, {})

    def answer(
        self, status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        body = json.dumps(content).encode()
        with contextlib.suppress(ConnectionError):
            self.send_response(status)
            for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)


def _oid(path: str, data: bytes | None) -> str | None:
    """What the client compares a file with: of a large one the sha256, else git's id."""
    if data is None:
        return None
    if path.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
