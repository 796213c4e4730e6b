"""The other end of a request: its body, as it comes, and whether anybody is there.

Needs the extra `serve`.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request

from gpt2_tuning.serving.refusal import Refusal

BODY_SECONDS = 30.0
"""In which a body must be here."""
DRAINED = 64 << 20
"""Bytes of a body too large that are read and thrown away, so that its sender hears the answer."""

T = TypeVar("T")


async def unless_gone(request: Request, answer: Awaitable[T]) -> T:
    """An answer. Raises ClientDisconnect as soon as nobody waits for it any more."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    work, watch = asyncio.ensure_future(answer), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        work.cancel()
        watch.cancel()


async def content_of(request: Request, most: int) -> bytes:
    """A request's body. Raises Refusal where it is too large or too slow."""
    found, size = bytearray(), 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size <= most:
                    found += part
                elif size > DRAINED:
                    break
    except TimeoutError as error:
        raise Refusal(408, f"the body was not here within {BODY_SECONDS:g} s") from error
    if size > most:
        raise Refusal(413, f"the body has more than {most:,} bytes", None, "body_too_large")
    return bytes(found)
