"""What is said no to, in the words and with the codes of OpenAI's API."""

from collections.abc import Mapping
from typing import Any

INVALID, MISSING, UNKNOWN_KEY = "invalid_request_error", "not_found_error", "authentication_error"
OVERLOADED, FAILED = "rate_limit_error", "server_error"


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        message: what is wrong and what to do, in a line.
        field: the field of the body that is wrong, where it is one.
        code: a word for programs.
        kind: a word for the kind of mistake.
        headers: of HTTP.
    """

    def __init__(
        self,
        status: int,
        message: str,
        field: str | None = None,
        code: str | None = None,
        kind: str = INVALID,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": field, "code": code}
        }


def wrong(message: str, field: str | None = None, code: str | None = None) -> Refusal:
    """Of a body that is wrong."""
    return Refusal(400, message, field, code)


def unknown_model(name: str) -> Refusal:
    """Of a model that is not served."""
    return Refusal(404, f"The model `{name}` does not exist", "model", "model_not_found")


def busy(seconds: int) -> Refusal:
    """Of one too many."""
    message = f"too many requests wait already: try again in {seconds} s"
    headers = {"retry-after": str(seconds)}
    return Refusal(429, message, None, "queue_full", OVERLOADED, headers)


def closing() -> Refusal:
    """Of one that came when the server was about to end."""
    return Refusal(503, "the server is about to end", None, "closing", FAILED)


def late() -> Refusal:
    """Of an answer that was not there in time."""
    return Refusal(504, "the answer took longer than the server allows", None, "timeout", FAILED)


def failed() -> Refusal:
    """Of a mistake of ours."""
    return Refusal(500, "the server failed; its log says how", None, "failed", FAILED)
