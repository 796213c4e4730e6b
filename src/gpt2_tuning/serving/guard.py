"""What every request passes before it is looked at: who may ask, and what is counted of it."""

import hmac
import json
import time
from typing import TYPE_CHECKING, Any

from gpt2_tuning.serving.refusal import UNKNOWN_KEY, Refusal

if TYPE_CHECKING:
    from gpt2_tuning.serving.measures import Measures

GUARDED = "/v1"
"""Addresses that need the key; whether the server is well anybody may ask."""


class Guard:
    """Middleware of ASGI.

    Args:
        app: what it stands before.
        measures: counts requests.
        api_key: that must come with them; None lets everybody ask.
    """

    def __init__(self, app: Any, measures: "Measures", api_key: str | None = None):
        self._app, self._measures = app, measures
        self._wanted = None if api_key is None else api_key.encode()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 0

        async def noted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self._may_ask(scope):
                await self._app(scope, receive, noted)
            else:
                await refuse(noted)
        finally:
            seconds = time.monotonic() - begun
            self._measures.request(scope["path"], status, seconds)

    def _may_ask(self, scope: Any) -> bool:
        if self._wanted is None or not scope["path"].startswith(GUARDED):
            return True
        scheme, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        # RFC 9110, 11.1: the scheme in letters of either case, and more than one space after it.
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.lstrip(b" "), self._wanted)


async def refuse(send: Any) -> None:
    """Says that the key is missing or wrong."""
    error = Refusal(401, "the API key is missing or wrong", None, "invalid_api_key", UNKNOWN_KEY)
    content = json.dumps(error.body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(content)).encode()),
        (b"www-authenticate", b"Bearer"),
    ]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
