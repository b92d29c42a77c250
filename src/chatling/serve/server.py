"""uvicorn with two habits of its own: it does not wait for ever for a request's head, and it lets
answers end when it is stopped.
"""

import asyncio
import errno
import logging
import resource
import socket
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from chatling.errors import MachineError
from chatling.serve.errors import PATIENCE
from chatling.serve.model_manager import ModelManager

# seconds that running answers get when the server is stopped; with the rest it ends within five
FINISH_WITHIN = 2.0
KEEP_ALIVE = 30  # seconds that a quiet connection stays open between requests
HEAD = 64 << 10  # bytes of a request's head
# bytes of a refused body that are still taken, so that the client reads the refusal rather than
# fail to send; a larger one is cut off
UNREAD = 1 << 20


class PatientProtocol(H11Protocol):
    """Closes a connection whose request's head does not come within `PATIENCE` seconds, however
    slowly it trickles, and one that keeps sending what was refused.
    """

    _waiting: asyncio.TimerHandle | None = None
    _unread = 0  # bytes of a body that came after its answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        answered = self.cycle is not None and self.cycle.response_complete
        self._unread = (
            self._unread + len(data) if answered and self.conn.their_state is h11.SEND_BODY else 0
        )
        if self._unread > UNREAD:
            self.transport.close()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._waiting is not None:
            self._waiting.cancel()

    def _watch(self) -> None:
        """The clock runs exactly while a head is awaited; the pause between requests has uvicorn's
        own clock.
        """
        if self._answering and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        elif not self._answering and self._waiting is None and self.timeout_keep_alive_task is None:
            self._waiting = self.loop.call_later(PATIENCE, self._give_up)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _give_up(self) -> None:
        if not self._answering:
            self.transport.close()


class Server(uvicorn.Server):
    """Stops in order: no new connections, answers get `FINISH_WITHIN` seconds, what is left gets a
    well-formed end.
    """

    def __init__(self, config: uvicorn.Config, models: ModelManager):
        super().__init__(config)
        self.models = models

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending = asyncio.ensure_future(self.models.close(0.0 if self.force_exit else FINISH_WITHIN))
        await super().shutdown(sockets)
        await ending


def serve(app: FastAPI, models: ModelManager, listener: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM, which is raised again at the end. `listener` is bound
    already.
    """
    _allow_files()
    Server(server_config(app), models).run(sockets=[listener])


def server_config(app: FastAPI) -> uvicorn.Config:
    """uvicorn as we want it: quiet, anonymous, patient but not for ever."""
    return uvicorn.Config(
        app,
        http=PatientProtocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level=logging.WARNING,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        h11_max_incomplete_event_size=HEAD,
        backlog=2048,
        timeout_graceful_shutdown=int(2 * FINISH_WITHIN),
    )


def listen(host: str, port: int, *, otherwise_any: bool = False) -> socket.socket:
    """A bound socket; port 0 takes any free one, and so does a taken one if told. Raises
    MachineError where the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise MachineError(
            f"Cannot listen on {host!r}: {error.strerror}.",
            "Give an address of this machine with --host.",
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if otherwise_any and error.errno == errno.EADDRINUSE:
            return listen(host, 0)
        hint = "Choose another port with --port; --port 0 takes any free one."
        raise MachineError(
            f"Cannot listen on {host} port {port}: {error.strerror}.", hint
        ) from error
    return listener


def is_loopback(listener: socket.socket) -> bool:
    address: Any = listener.getsockname()[0]
    return address == "::1" or address.startswith("127.")


def _allow_files() -> None:
    """As many open connections as the system lets us: a shell's usual 1,024 is fewer than a
    thousand clients and a model need.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, 65_536), hard))
