"""One file over HTTP: resumed, retried, checked. A file bears its name only when it is whole."""

import email.utils
import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from huggingface_hub import get_session, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import hf_raise_for_status, httpx

from chatling.errors import ChatlingError, DataError, Interrupted
from chatling.run_dir import disk_errors, fsync, sha256_file

Result = TypeVar("Result")
HUB = "https://huggingface.co"
ATTEMPTS = 6  # in a row without a byte of progress
LONGEST_PAUSE = 600.0  # seconds, however long a server asks for
SILENCE = 30.0  # seconds without a byte after which a connection is given up
FAILURES = (httpx.HTTPError, httpx.InvalidURL, OfflineModeIsEnabled)
WORTH_ANOTHER_TRY = (408, 429, 500, 502, 503, 504)
# what went wrong, the sentence for it and its hint; of a table, the first that fits is taken
Explanations = tuple[tuple[type[Exception] | int, str, str], ...]
NO_WAY: Explanations = (
    (
        OfflineModeIsEnabled,
        "There is no way to {}: HF_HUB_OFFLINE forbids the network.",
        "Unset HF_HUB_OFFLINE.",
    ),
    *(
        (kind, "There is no way to {}: HF_ENDPOINT is no address.", f"It looks like {HUB}.")
        for kind in (httpx.InvalidURL, httpx.UnsupportedProtocol)
    ),
)
FETCH: Explanations = (
    *NO_WAY,
    (
        GatedRepoError,
        "Access to {} is gated.",
        "Accept its terms on its page on the Hub, and set HF_TOKEN to a token of yours.",
    ),
    (RevisionNotFoundError, "There is no such revision of {}.", "`main` is the newest."),
    (
        RepositoryNotFoundError,
        "There is no {}, or it is private.",
        "Check the spelling; for a private one set HF_TOKEN.",
    ),
    *(
        (status, f"Access to {{}} is refused ({status}).", "Set HF_TOKEN to one that may read it.")
        for status in (401, 403)
    ),
    (
        404,
        "There is no {} (404).",
        "A mirror may lack it: choose another with HF_ENDPOINT, or unset that.",
    ),
    (
        Exception,
        "Could not fetch {}: {reason}.",
        "Check the connection, or choose a mirror with HF_ENDPOINT; `--data.local FOLDER` reads"
        " data that you have already.",
    ),
)


@dataclass(frozen=True)
class Remote:
    """A file to be fetched. `sha256` is of its content; `git` is its id as a git blob, for small
    files that have no checksum else.
    """

    label: str  # how messages call it
    url: str
    size: int | None = None
    sha256: str | None = None
    git: str | None = None

    def matches(self, path: Path) -> bool:
        """Whether a file on disk is this one, whole; reads all of it."""
        if self.size is not None and path.stat().st_size != self.size:
            return False
        if self.sha256 is not None:
            return sha256_file(path) == self.sha256
        if self.git is None:
            return True
        header = b"blob %d\0" % path.stat().st_size
        with open(path, "rb") as file:
            begun = partial(hashlib.sha1, header, usedforsecurity=False)  # git's object id
            return hashlib.file_digest(file, begun).hexdigest() == self.git


class RetryPolicy:
    """Meets failures of the network: waits longer each time, as long as the server asks, and gives
    up when nothing comes of it.
    """

    def __init__(
        self,
        pause: float = 1.0,
        note: Callable[[str], None] = lambda line: None,
        explanations: Explanations = FETCH,
    ):
        """`pause` is the first wait, in seconds; each further one is twice as long."""
        self.pause, self.note, self.stopped = pause, note, threading.Event()
        self.explanations = explanations

    def check(self) -> None:
        """Raises Interrupted in threads whose work nobody waits for any more."""
        if self.stopped.is_set():
            raise Interrupted("The download was stopped.", "The same command resumes it.")

    def wait(self, failures: int, error: Exception, label: str) -> None:
        """Before try `failures + 1`. Raises DataError when the error is not worth one, or has come
        too often.
        """
        if not _may_pass(error) or failures >= ATTEMPTS:
            raise explain(error, label, self.explanations) from error
        seconds = min(_asked(error) or self.pause * 2 ** (failures - 1), LONGEST_PAUSE)
        if failures > 2 or seconds > 5:
            self.note(f"{label}: {_reason(error)}; trying again in {seconds:.0f} s")
        self.stopped.wait(seconds)
        self.check()

    def persist(self, action: Callable[[], Result], label: str) -> Result:
        """`action`, again and again until it works."""
        for failures in range(1, ATTEMPTS + 1):
            try:
                return action()
            except FAILURES as error:
                self.wait(failures, error, label)
        raise AssertionError("the last wait raises")


def download(
    remote: Remote, part: Path, target: Path, headers: Mapping[str, str], patience: RetryPolicy
) -> None:
    """Bring a file to `target` by way of `part`, beside which an earlier try may have left its
    beginning.

    Raises DataError saying why when it cannot be had, or is not what it should be; then there is no
    `target`.
    """
    failures, afresh = 0, False
    with disk_errors(target):
        for folder in (part.parent, target.parent):
            folder.mkdir(parents=True, exist_ok=True)
        while True:
            have = file_size(part)
            try:
                if have != remote.size:
                    _transfer(remote, part, headers, patience)
            except FAILURES as error:
                failures = 1 if file_size(part) > have else failures + 1
                patience.wait(failures, error, remote.label)
                continue
            if remote.matches(part):
                break
            part.unlink()
            if afresh:
                raise DataError(
                    f"What came as {remote.label} does not have the checksum that it should have:"
                    " damaged or changed on its way.",
                    "Try again later, or another mirror with HF_ENDPOINT.",
                )
            afresh = True
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
        fsync(target.parent)


def _transfer(
    remote: Remote, part: Path, headers: Mapping[str, str], patience: RetryPolicy
) -> None:
    """Append what is missing to `part`, or begin again where the server does not resume."""
    have = file_size(part)
    if remote.size is not None and have > remote.size:
        part.unlink()
        have = 0
    asked = {
        **headers,
        "Accept-Encoding": "identity",
        **({"Range": f"bytes={have}-"} if have else {}),
    }
    with get_session().stream("GET", remote.url, headers=asked, timeout=SILENCE) as response:
        # nothing stands behind what is here: whole, or not from this file
        if response.status_code == 416:
            return
        if response.status_code >= 400:
            response.read()
        hf_raise_for_status(response)
        resumed = response.status_code == 206 and response.headers.get(
            "Content-Range", ""
        ).startswith(f"bytes {have}-")
        with open(part, "ab" if resumed else "wb") as file:
            for block in response.iter_bytes():
                patience.check()
                file.write(block)
    if remote.size is not None and file_size(part) < remote.size:
        raise httpx.RemoteProtocolError(f"{file_size(part)} of {remote.size} bytes came")


def file_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _status(error: Exception) -> int | None:
    """What a server answered, if one did."""
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _may_pass(error: Exception) -> bool:
    if isinstance(error, HfHubHTTPError):
        return _status(error) in WORTH_ANOTHER_TRY
    hopeless = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
    return isinstance(error, httpx.TransportError) and not isinstance(error, hopeless)


def _asked(error: Exception) -> float | None:
    """Seconds that a server asks to wait, by its Retry-After header: a number or a date."""
    if not isinstance(error, HfHubHTTPError):
        return None
    value = error.response.headers.get("Retry-After", "")
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, HfHubHTTPError):
        code = error.response.status_code
        if code == 429:
            return "the server asks to come back later (429)"
        # a server may repeat what it was sent
        told = (error.server_message or "").replace(get_token() or "\n", " ")
        told = " ".join(told.split())[:100] if code < 500 else ""
        return f"the server answers {code}" + (f", {told}" if told else "")
    if isinstance(error, httpx.TimeoutException):
        return f"nothing came for {SILENCE:.0f} s"
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    return f"the connection broke ({str(error).partition(chr(10))[0] or type(error).__name__})"


def explain(error: Exception, label: str, explanations: Explanations = FETCH) -> ChatlingError:
    """The sentence for a failure. No header, so no token, and no signed address is ever part of
    it.
    """
    what, hint = next(
        (what, hint)
        for kind, what, hint in explanations
        if (_status(error) == kind if isinstance(kind, int) else isinstance(error, kind))
    )
    return DataError(what.format(label, reason=_reason(error)), hint)


def hub_token() -> str | None:
    """The user's token for the Hub. Raises DataError for one that no header can hold, since what
    fails then would repeat it.
    """
    token = get_token()
    if token and not (token.isascii() and token.isprintable()):
        raise DataError(
            "The token for the Hub holds characters that no token has.",
            "Copy it again from the Hub's page, into HF_TOKEN.",
        )
    return token
