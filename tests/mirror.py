"""A small Hub on this machine: the endpoints that chatling asks, real files under real repository
names, and faults on demand.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from hub_uploads import LARGE, Repository, Uploads

CORPORA = ("karpathy/fineweb-edu-100b-shuffle", "karpathy/climbmix-400b-shuffle")
COMMIT = hashlib.sha1(b"the mirror's only commit").hexdigest()


@dataclass
class Fault:
    """What goes wrong with a file, or with the listing of a data set, `times` times."""

    # pattern of the path in the repository, of a plain address's last part, or of the data set
    # whose listing it is
    path: str = "*"
    listing: bool = False
    times: int = 1
    cut: int | None = None  # the connection ends after so many bytes of the body
    status: int | None = None  # an answer instead of the file
    error: str = "refused"  # what that says
    headers: dict[str, str] = field(
        default_factory=dict
    )  # with it, such as Retry-After or X-Error-Code
    corrupt: bool = False  # one byte in the middle is another
    delay: float = 0.0  # seconds before each 64 KB
    deaf: bool = False  # Range is ignored


@dataclass(frozen=True)
class RequestOptions:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]  # names in lower case


class Mirror:
    """The server with what it serves, what it was asked, and what it is to do wrong."""

    token = "hf_" + "secret" * 5

    def __init__(self) -> None:
        self.files: dict[tuple[str, str], bytes | Path] = {}
        self.plain: dict[str, bytes] = {}
        self.gated: set[str] = set()  # repositories that want `token`
        self.faults: list[Fault] = []
        self.asked: list[RequestOptions] = []
        # of models and Spaces, by ("model" or "space", name); what was pushed goes there
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.written: list[tuple[str, str, bytes]] = []
        self.closed = False
        self.redirect = False  # large files come from another host, as the Hub's do
        self._lock = threading.Lock()
        mirror = self

        class Handler(_Handler):
            hub = mirror

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, repo: str, path: str, content: bytes | Path) -> None:
        """Serve a file of a data set."""
        self.files[repo, path] = content

    def add_plain(self, name: str, content: bytes) -> str:
        """Serve a file at an address of its own, and return that."""
        self.plain[name] = content
        return f"{self.url}/plain/{name}"

    def add_pack(self, pack: Path) -> None:
        """Serve the data pack's files under the names of the data sets that they stand for."""
        for source, place in PLACES.items():
            owner, name, path = place.split("/", 2)
            self.add(f"{owner}/{name}", path, pack / source)
        for shard in sorted((pack / "pretrain_en").glob("*.parquet")):
            for corpus in CORPORA:
                self.add(corpus, shard.name, shard)

    def content(self, repo: str, path: str) -> bytes:
        data = self.files[repo, path]
        return data if isinstance(data, bytes) else data.read_bytes()

    def downloads(self) -> Counter[str]:
        """How often each file's content was asked for, by its path in the repository or plain
        name.
        """
        paths = [
            asked.path
            for asked in self.asked
            if asked.method == "GET" and ("/resolve/" in asked.path or "/plain/" in asked.path)
        ]
        return Counter(path.split(f"/resolve/{COMMIT}/")[-1].split("/plain/")[-1] for path in paths)

    def fault(self, path: str, listing: bool = False) -> Fault | None:
        """The first fault that is left for a path, used up once."""
        with self._lock:
            for fault in self.faults:
                if (
                    fault.times > 0
                    and fault.listing == listing
                    and fnmatch.fnmatch(path, fault.path)
                ):
                    fault.times -= 1
                    return fault
        return None

    def close(self) -> None:
        """No answer from now on, also on connections that are open."""
        self.closed = True
        self._server.shutdown()
        self._server.server_close()


class _Handler(Uploads):
    hub: Mirror
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.hub.closed:
            self.close_connection = True
            return
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(
            RequestOptions(
                self.command, path, {name.lower(): value for name, value in self.headers.items()}
            )
        )
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "datasets"]:
            self._listing("/".join(parts[2:4]))
        elif parts[0] == "datasets" and "resolve" in parts:
            at = parts.index("resolve")
            self._file("/".join(parts[1:at]), "/".join(parts[at + 2 :]), moved=False)
        elif parts[0] == "elsewhere":
            self._file("/".join(parts[1:3]), "/".join(parts[3:]), moved=True)
        elif parts[0] == "api" and parts[1] in ("models", "spaces"):
            self._repository(parts[1].removesuffix("s"), "/".join(parts[2:4]))
        elif parts[2:3] == ["resolve"]:
            self._model_file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        elif parts == ["api", "whoami-v2"]:
            right = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
            self._answer(200 if right else 401, {}, b"{}")
        elif parts[0] == "plain" and parts[-1] in self.hub.plain:
            self._body(self.hub.plain[parts[-1]], self.hub.fault(parts[-1]))
        else:
            self._answer(404, {}, b"not found")

    def _listing(self, repo: str) -> None:
        if self._refused(repo, self.hub.fault(repo, listing=True)):
            return
        siblings = []
        for (owner, path), _ in sorted(self.hub.files.items(), key=lambda item: item[0]):
            if owner == repo:
                siblings.append(_sibling(path, self.hub.content(repo, path), (".parquet", ".gz")))
        if not siblings:
            self._answer(401, {"X-Error-Code": "RepoNotFound"}, b'{"error":"Repository not found"}')
            return
        self._answer(
            200,
            {"Content-Type": "application/json"},
            json.dumps({"id": repo, "sha": COMMIT, "siblings": siblings}).encode(),
        )

    def _file(self, repo: str, path: str, *, moved: bool) -> None:
        if (repo, path) not in self.hub.files:
            self._answer(404, {"X-Error-Code": "EntryNotFound"}, b"no such file")
        elif self.hub.redirect and not moved:
            self._answer(
                302, {"Location": f"http://localhost:{self.hub.port}/elsewhere/{repo}/{path}"}, b""
            )
        else:
            fault = self.hub.fault(path)
            if not self._refused(repo if not moved else "", fault):
                self._body(self.hub.content(repo, path), fault)

    def _visible(self, kind: str, name: str) -> Repository | None:
        """A repository, if it is there and the token may see it."""
        found = self.hub.repositories.get((kind, name))
        mine = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if found is None or (found.private and not mine):
            self._answer(404, {"X-Error-Code": "RepoNotFound"}, b'{"error":"Repository not found"}')
            return None
        return found

    def _repository(self, kind: str, name: str) -> None:
        if self._refused(name, self.hub.fault(name, listing=True)):
            return
        if found := self._visible(kind, name):
            about = {
                "id": name,
                "sha": found.commits[-1],
                "private": found.private,
                "cardData": found.card_data,
                "siblings": [_sibling(path, data, LARGE) for path, data in found.files.items()],
            }
            self._answer(200, {"Content-Type": "application/json"}, json.dumps(about).encode())

    def _model_file(self, name: str, commit: str, path: str) -> None:
        if found := self._visible("model", name):
            if commit != found.commits[-1] or path not in found.files:
                self._answer(404, {"X-Error-Code": "EntryNotFound"}, b"no such file")
            else:
                self._body(found.files[path], self.hub.fault(path))

    def _refused(self, repo: str, fault: Fault | None) -> bool:
        if fault and fault.status:
            self._answer(fault.status, fault.headers, b"refused")
        elif (
            repo in self.hub.gated
            and self.headers.get("Authorization") != f"Bearer {self.hub.token}"
        ):
            self._answer(401, {"X-Error-Code": "GatedRepo"}, b'{"error":"gated"}')
        else:
            return False
        return True

    def _body(self, data: bytes, fault: Fault | None) -> None:
        begin, headers, status = 0, {"Accept-Ranges": "bytes"}, 200
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and not (fault and fault.deaf):
            begin = int(wanted.removeprefix("bytes=").partition("-")[0])
            if begin >= len(data):
                self._answer(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
                return
            headers["Content-Range"], status = f"bytes {begin}-{len(data) - 1}/{len(data)}", 206
        if fault and fault.corrupt:
            middle = (begin + len(data)) // 2
            data = data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]
        body = data[begin:]
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if fault and fault.cut is not None:
            self.wfile.write(body[: fault.cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        with contextlib.suppress(ConnectionError):  # who asked has gone
            for at in range(0, len(body), 65_536):
                if fault and fault.delay:
                    time.sleep(fault.delay)
                self.wfile.write(body[at : at + 65_536])

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests read `asked`."""


def _sibling(path: str, data: bytes, large: tuple[str, ...]) -> dict[str, object]:
    """A file in a listing. Of those that the Hub keeps outside git, it tells a sha256."""
    sha256 = hashlib.sha256(data).hexdigest()
    lfs = {"lfs": {"sha256": sha256, "size": len(data), "pointerSize": 134}}
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    entry = {"rfilename": path, "size": len(data), "blobId": blob}
    return entry | (lfs if path.endswith(large) else {})


# path in the data pack -> data set and path in it, as on the Hub
PLACES = {
    "sft/train.parquet": "HuggingFaceTB/smol-smoltalk/data/train-00000-of-00001.parquet",
    "sft/test.parquet": "HuggingFaceTB/smol-smoltalk/data/test-00000-of-00001.parquet",
    "mmlu/auxiliary_train.parquet": "cais/mmlu/all/auxiliary_train-00000-of-00001.parquet",
    "mmlu/validation.parquet": "cais/mmlu/all/validation-00000-of-00001.parquet",
    "mmlu/test.parquet": "cais/mmlu/all/test-00000-of-00001.parquet",
    **{
        f"arc/{name}/{split}.parquet": f"allenai/ai2_arc/{name}/{split}-00000-of-00001.parquet"
        for name in ("ARC-Easy", "ARC-Challenge")
        for split in ("train", "validation", "test")
    },
    "gsm8k/train.jsonl": "openai/gsm8k/main/train.jsonl",
    "gsm8k/test.jsonl": "openai/gsm8k/main/test.jsonl",
    "humaneval/HumanEval.jsonl.gz": "openai/openai_humaneval/openai_humaneval/test.jsonl.gz",
}


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Mirror]:
    """A mirror that HF_ENDPOINT points at, with an empty home folder and no token."""
    server = Mirror()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("CHATLING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server
    server.close()
