"""Data sets of the Hub and files at plain addresses, on this machine: fetched once, checked, kept.

    cache/<owner>/<name>/<path in the repository>    whole files alone; a folder laid out like this
    can be given as `local`
    cache/.fetch/<owner>/<name>/listing.json         the data set's files with sizes and checksums,
    at the commit first met
    cache/.fetch/<owner>/<name>/<path>.whole         the size, time and checksum at which a file was
    found whole
                                       .part .lock   its beginning, while it comes; who brings it

Whatever is in the cache is taken from there without asking the network.
"""

from __future__ import annotations

import contextlib
import email.utils
import fnmatch
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from huggingface_hub import HfApi, constants
from huggingface_hub.utils import build_hf_headers, httpx

from chatling.data.http import HUB, Remote, RetryPolicy, download, file_size, hub_token
from chatling.data.shard_files import file_fingerprint
from chatling.errors import DataError, MachineError
from chatling.run_dir import disk_errors, free_bytes, home, read_json, waiting_lock, write_json

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
AT_ONCE = 8  # files
NOTE_SECONDS = 5.0  # between lines of progress
SPARE = 500_000_000  # bytes that are left free on the disk


@dataclass(frozen=True)
class _Wanted:
    """A file to have, and where it and what is known of it are kept."""

    remote: Remote
    path: Path
    about: Path  # + ".whole", ".part", ".lock"

    def mark(self, suffix: str) -> Path:
        return self.about.with_name(f"{self.about.name}.{suffix}")

    @property
    def checksum(self) -> str:
        return self.remote.sha256 or self.remote.git or ""

    @property
    def bytes(self) -> int:
        """How much of it is there."""
        return (self.remote.size or 0) if self.path.exists() else file_size(self.mark("part"))

    def is_whole(self) -> bool:
        """Whether the file is there and as it should be; reads it only when it has been touched
        since that was last found out.
        """
        if not self.path.exists():
            return False
        state = self.state()
        with contextlib.suppress(DataError):
            if read_json(self.mark("whole")) == state:
                return True
        whole = self.remote.matches(self.path)
        if whole:
            write_json(self.mark("whole"), state)
        return whole

    def state(self) -> dict[str, Any]:
        """What tells whether the file has been touched."""
        facts = self.path.stat()
        return {"bytes": facts.st_size, "time": facts.st_mtime_ns, "checksum": self.checksum}


class Fetcher:
    """Brings files into the cache. Several may work at once, in threads or processes: each file
    comes once, and all get it.
    """

    def __init__(
        self,
        *,
        local: Path | None = None,
        endpoint: str | None = None,
        note: Callable[[str], None] | None = None,
        pause: float = 1.0,
        models: bool = False,
    ):
        """`local` is a folder of your own laid out as <owner>/<name>/<path in repository>, looked
        into first and used as it is.

        `endpoint` is the Hub or a mirror of it, else HF_ENDPOINT's; HF_TOKEN is sent along. `note`
        hears of progress and trouble; `pause`
        is the wait in seconds before the first new try after a failure. With `models`, names are
        those of models. Raises DataError when
        `local` is no folder.
        """
        self.local = local.expanduser() if local else None
        if self.local is not None and not self.local.is_dir():
            raise DataError(
                f"There is no folder {self.local}.", "Correct [data] local, or leave it out."
            )
        self.endpoint = (endpoint or hub_endpoint()).rstrip("/")
        self.cache, self._note = home() / "cache", note or (lambda line: None)
        self.models, self._kind = models, "model" if models else "data set"
        if models:
            self.cache /= "models"
        self._pause, self._listings = pause, dict[str, dict[str, Any]]()

    def __reduce__(self) -> tuple[Callable[[], Fetcher], tuple[()]]:
        """In another process it works on the same cache, and tells nobody."""
        kept = {"local": self.local, "endpoint": self.endpoint, "pause": self._pause}
        return partial(Fetcher, **kept, models=self.models), ()  # type: ignore[arg-type]

    def dataset(self, repo: str, pattern: str) -> list[Path]:
        """The files of a data set whose path in it matches a pattern (as of fnmatch), sorted;
        fetched where they are not there yet.

        A listing is kept from the first time on, so all files of a data set are of one commit, and
        a full cache needs no network. Raises DataError naming the data set or the file that cannot
        be had, and why; MachineError when the disk is too small.
        """
        return self.paths(
            repo,
            [name for name in self.names(repo) if fnmatch.fnmatch(name, pattern)],
        )

    def names(self, repo: str) -> list[str]:
        """The paths of all files in a data set, sorted. Raises DataError when it cannot be
        listed.
        """
        own = self._own(repo)
        if own is not None:
            return sorted(
                path.relative_to(own).as_posix() for path in own.rglob("*") if path.is_file()
            )
        return sorted(self._listing(repo)["files"])

    def paths(self, repo: str, names: Sequence[str]) -> list[Path]:
        """Files of a data set by their paths in it, in the given order; fetched where they are not
        there yet. Raises as `dataset`.
        """
        own = self._own(repo)
        if own is not None:
            return [own / name for name in names]
        listing = self._listing(repo)
        absent = [name for name in names if name not in listing["files"]]
        if absent:
            raise DataError(
                f"The {self._kind} {repo} has no file {absent[0]}.",
                f"`{self._about(repo)}/listing.json` lists them.",
            )
        wanted = [self._of_listing(repo, listing, name) for name in names]
        self._bring(wanted, repo)
        return [each.path for each in wanted]

    def checksum(self, repo: str, name: str) -> str:
        """What tells a file of a data set from another of its name, without having it."""
        own = self._own(repo)
        if own is not None:
            return file_fingerprint(own / name)
        entry = self._listing(repo)["files"][name]
        return str(entry.get("sha256") or entry["git"])

    def url(self, url: str, sha256: str) -> Path:
        """A file at a plain address, whose checksum is known. `local` may hold it by the address's
        last part. Raises DataError.
        """
        name = url.rpartition("/")[2]
        if self.local is not None and (self.local / name).is_file():
            return self.local / name
        place = f"files/{sha256[:16]}/{name}"
        wanted = _Wanted(
            Remote(f"{name} from {url}", url, sha256=sha256),
            self.cache / place,
            self.cache / ".fetch" / place,
        )
        self._bring([wanted], name)
        return wanted.path

    def _own(self, repo: str) -> Path | None:
        """The user's own copy of a data set."""
        if not REPOSITORY.fullmatch(repo) or ".." in repo:
            raise DataError(f"{repo!r} is no name of a {self._kind}.", "They look like owner/name.")
        return (
            self.local / repo if self.local is not None and (self.local / repo).is_dir() else None
        )

    def _about(self, repo: str) -> Path:
        return self.cache / ".fetch" / repo

    def _of_listing(self, repo: str, listing: Mapping[str, Any], name: str) -> _Wanted:
        entry = listing["files"][name]
        kind = "" if self.models else "datasets/"
        url = f"{self.endpoint}/{kind}{repo}/resolve/{listing['commit']}/{quote(name)}"
        remote = Remote(
            f"{name} of {repo}", url, entry["bytes"], entry.get("sha256"), entry.get("git")
        )
        return _Wanted(remote, self.cache / repo / name, self._about(repo) / name)

    def _listing(self, repo: str) -> dict[str, Any]:
        """{"commit", "files": {path: {"bytes", "sha256" or "git"}}}, of the cache if it is
        there.
        """
        kept = self._about(repo) / "listing.json"
        if repo not in self._listings:
            with waiting_lock(kept.with_name("listing.lock")):
                if self.models or not kept.exists():  # a model is what its owner pushed last
                    write_json(kept, self._ask(repo))
                self._listings[repo] = read_json(kept)
        return self._listings[repo]

    def _ask(self, repo: str) -> dict[str, Any]:
        api = HfApi(endpoint=self.endpoint, token=hub_token() or False)
        label, ask = f"{self._kind} {repo}", api.model_info if self.models else api.dataset_info
        patience = RetryPolicy(self._pause, self._note)
        info = patience.persist(
            lambda: ask(repo, revision="main", files_metadata=True, timeout=60),
            label,
        )
        files = {}
        for file in info.siblings or ():
            if file.rfilename.startswith("/") or ".." in file.rfilename.split("/"):
                raise DataError(
                    f"The {label} lists {file.rfilename!r}, which would lie outside the cache.",
                    "Do not use this mirror.",
                )
            size, checksum = (
                (file.lfs.size, {"sha256": file.lfs.sha256})
                if file.lfs
                else (file.size, {"git": file.blob_id})
            )
            if size is None or None in checksum.values():
                raise DataError(
                    f"{self.endpoint} tells neither sizes nor checksums of {repo}.",
                    "Choose another mirror with HF_ENDPOINT.",
                )
            files[file.rfilename] = {"bytes": size, **checksum}
        return {"commit": info.sha, "files": files}

    def _bring(self, wanted: Sequence[_Wanted], label: str) -> None:
        """Have all of them, several at a time. What has come whole stays when another fails."""
        missing = [each for each in wanted if not each.is_whole()]
        if not missing:
            return
        had = sum(file_size(each.mark("part")) for each in missing)
        left = sum(each.remote.size or 0 for each in missing) - had
        if left + SPARE > free_bytes(self.cache):
            raise MachineError(
                f"Fetching {label} takes {left / 1e9:.1f} GB, and"
                f" {free_bytes(self.cache) / 1e9:.1f} GB are free at {self.cache}.",
                "Free some space, ask for fewer shards with --data.shards, or put the cache"
                " elsewhere with CHATLING_HOME.",
            )
        patience, begun = RetryPolicy(self._pause, self._note), time.monotonic()
        headers = build_hf_headers(token=hub_token() or False)
        with ThreadPoolExecutor(min(AT_ONCE, len(missing)), "chatling-fetch") as pool:
            ahead = {pool.submit(self._one, each, headers, patience) for each in missing}
            running = set(ahead)
            try:
                while running:
                    done, running = wait(running, NOTE_SECONDS, FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                    if running:  # counted on the disk: another process may be bringing some of them
                        got = sum(each.bytes for each in missing) - had
                        files = f"{len(ahead) - len(running)} of {len(ahead)} files"
                        self._note(
                            f"{label}: {files}, {_progress(got, left, time.monotonic() - begun)}"
                        )
            finally:
                patience.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
        files = missing[0].remote.label if len(missing) == 1 else f"{len(missing)} files of {label}"
        got = sum(file_size(each.path) for each in missing) - had
        self._note(f"Fetched {files}: {got / 1e6:,.1f} MB in {time.monotonic() - begun:.0f} s")

    def _one(self, wanted: _Wanted, headers: Mapping[str, str], patience: RetryPolicy) -> None:
        # the token is for the Hub alone
        plain = headers if wanted.remote.url.startswith(self.endpoint + "/") else {}
        with waiting_lock(wanted.mark("lock"), patience.check):
            if wanted.is_whole():  # another process brought it meanwhile
                return
            patience.check()
            with disk_errors(wanted.path):
                wanted.path.unlink(missing_ok=True)
            download(wanted.remote, wanted.mark("part"), wanted.path, plain, patience)
            write_json(wanted.mark("whole"), wanted.state())


def hub_endpoint() -> str:
    """The Hub's address, or that of the mirror which HF_ENDPOINT names."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def ask_hub(seconds: float = 3.0) -> dict[str, Any]:
    """Facts for `doctor`: whether the Hub or its mirror answers and takes the token, and how far
    its clock is from ours.
    """
    facts: dict[str, Any] = {"endpoint": hub_endpoint(), "offline": constants.HF_HUB_OFFLINE}
    if facts["offline"]:
        return facts
    try:
        with httpx.Client(timeout=seconds, follow_redirects=True) as client:
            with client.stream("GET", facts["endpoint"]) as answer:  # a page that nobody reads
                pass
            facts["token"] = _ask_about_token(client, facts["endpoint"])
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return facts | {"endpoint_error": (str(error) or type(error).__name__).rstrip(".")}
    with contextlib.suppress(KeyError, ValueError):
        theirs = email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp()
        facts["clock_skew"] = time.time() - theirs
    broken = f"it answers {answer.status_code}" if answer.status_code >= 500 else ""
    return facts | {"endpoint_error": broken}


def _ask_about_token(client: httpx.Client, endpoint: str) -> str:
    """Whether it is "accepted" or "refused", "unknown" to a mirror without accounts; "none" where
    there is none.
    """
    try:
        token = hub_token()
    except DataError:
        return "refused"
    if not token:
        return "none"
    headers = {"Authorization": f"Bearer {token}"}
    status = client.get(f"{endpoint}/api/whoami-v2", headers=headers).status_code
    return "refused" if status in (401, 403) else "accepted" if status == 200 else "unknown"


def _progress(got: int, total: int, seconds: float) -> str:
    rate = got / max(seconds, 1e-9)
    left = (total - got) / rate if got > 0 else 0.0
    shown = (
        "" if left <= 0 else f", {left:.0f} s left" if left < 100 else f", {left / 60:.0f} min left"
    )
    return f"{got / 1e9:.2f} of {total / 1e9:.2f} GB, {rate / 1e6:.1f} MB/s{shown}"
