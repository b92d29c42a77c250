"""What one client may ask of the server at most, and the errors that say so."""

from dataclasses import dataclass, field
from typing import Any

from chatling.errors import ChatlingError


@dataclass(frozen=True)
class Limits:
    """Each becomes an option `--max-NAME` of `chatling serve`."""

    messages: int = field(default=256, metadata={"help": "messages in a request"})
    characters: int = field(
        default=400_000, metadata={"help": "characters in a request's messages or prompts"}
    )
    tokens: int = field(default=32_768, metadata={"help": "new tokens in an answer"})
    seconds: int = field(default=600, metadata={"help": "seconds that a request may take"})
    choices: int = field(default=128, metadata={"help": "answers that one request may ask for"})
    waiting: int = field(
        default=256, metadata={"help": "requests that wait for a row before others are turned away"}
    )
    body: int = field(default=4 << 20, metadata={"help": "bytes of a request's body"})
    models: int = field(default=3, metadata={"help": "models in memory at a time"})

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ChatlingError(f"--max-{name} is {value}; it must be at least 1.")


PATIENCE = 20.0  # seconds that a client may take to send a request's head, and again for its body


ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """A request that cannot be served, in the shape of the OpenAI API's errors."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.headers = (
            status,
            message,
            param,
            code,
            headers or {},
        )

    @property
    def body(self) -> dict[str, Any]:
        """The response's JSON."""
        other = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": ERROR_TYPES.get(self.status, other),
                "param": self.param,
                "code": self.code,
            }
        }


def too_many(what: str, limit: int, unit: str, param: str | None = None) -> ApiError:
    return ApiError(
        400,
        f"{what}; this server takes at most {limit:,} {unit}.",
        param=param,
        code="limit_exceeded",
    )


def overloaded(message: str, seconds: int) -> ApiError:
    """Worth another try after so many seconds."""
    return ApiError(429, message, code="rate_limit_exceeded", headers={"Retry-After": str(seconds)})


def shutting_down() -> ApiError:
    return ApiError(
        503, "The server is shutting down.", code="shutting_down", headers={"Retry-After": "5"}
    )
