"""The server's side that speaks HTTP, in OpenAI's words; it computes nothing itself.

Needs the extra `serve`.
"""

import asyncio
import concurrent.futures
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.scoring import TokenScore
from gpt2_tuning.serving import answers, body, labels, refusal, wanted
from gpt2_tuning.serving.connection import content_of, unless_gone
from gpt2_tuning.serving.engine import Busy, Closed, Engine
from gpt2_tuning.serving.guard import Guard
from gpt2_tuning.serving.measures import Measures
from gpt2_tuning.serving.refusal import Refusal
from gpt2_tuning.serving.rows import Piece, ServedRow
from gpt2_tuning.serving.served import Served
from gpt2_tuning.serving.wanted import Limits, Wanted

GONE = 499
"""What is noted of a request whose client went away, as nginx has it."""
DONE = b"data: [DONE]\n\n"

BODIES = ("/v1/completions", "/v1/chat/completions", "/v1/classify", "/v1/embeddings")
"""The addresses that are told what to do in a body."""

T = TypeVar("T")
Read = Callable[[Mapping[str, Any], Served, Limits], T]


class Api:
    """What is done at each address.

    Args:
        served: the models.
        engine: computes the answers.
        limits: of a request.
    """

    def __init__(self, served: Served, engine: Engine, limits: Limits):
        self.served, self.engine, self.limits = served, engine, limits
        self.created = int(time.time())
        # One at a time: templates are rendered in an environment that all share.
        self._reader = concurrent.futures.ThreadPoolExecutor(1, "reader")

    async def health(self) -> Response:
        """Whether answers are computed."""
        alive = self.engine.alive
        return JSONResponse({"status": "ok" if alive else "failed"}, 200 if alive else 503)

    async def models(self) -> Response:
        """All models."""
        return JSONResponse(answers.models(list(self.served.models), self.created))

    async def model(self, name: str) -> Response:
        """One of them."""
        if name not in self.served.models:
            raise refusal.unknown_model(name[:200])
        return JSONResponse(dict(answers.model(name, self.created)))

    async def completions(self, request: Request) -> Response:
        """Texts that go on from prompts."""
        return await self._told(request, wanted.completion)

    async def chat(self, request: Request) -> Response:
        """Answers to what is said last in a conversation."""
        return await self._told(request, wanted.chat)

    async def classify(self, request: Request) -> Response:
        """Labels, with the probability of every class."""
        asked = await self._read(request, labels.labelling)
        found = await self._computed(request, asked.jobs(self.served))
        return JSONResponse(asked.body(found))

    async def embeddings(self, request: Request) -> Response:
        """Texts as vectors."""
        asked = await self._read(request, labels.embedding)
        found = await self._computed(request, asked.jobs(self.served))
        return JSONResponse(asked.body(found))

    async def _read(self, request: Request, read: Read[T]) -> T:
        """What a request's body asks for. Raises Refusal."""
        content = await content_of(request, self.limits.max_body)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._reader, lambda: read(body.parsed(content), self.served, self.limits)
        )

    async def _told(self, request: Request, read: Read[Wanted]) -> Response:
        """The answers to a request for text, at once or as a stream."""
        deadline = time.monotonic() + self.limits.timeout
        asked = await self._read(request, read)
        most = self.engine.queue
        if len(asked.rows) > most:  # before anything is done for so many
            many = f"{len(asked.rows)} answers are more than {most}, the most at once"
            raise refusal.wrong(many, "n" if asked.answers_each > 1 else "prompt")
        prompt_scores = await self._prompt_scores(request, asked)
        telling = answers.Telling(asked, self.served.tokenizer, prompt_scores)
        pieces, rows = self._submitted(asked, deadline)
        if asked.stream:
            events = streamed(asked, telling, pieces)
            return RowsResponse(self.engine, rows, events)
        try:
            found = await unless_gone(request, collected(len(rows), pieces))
        finally:
            self.engine.leave(rows)
        return JSONResponse(telling.whole(found))

    def _submitted(
        self, asked: Wanted, deadline: float
    ) -> tuple["asyncio.Queue[tuple[int, Piece]]", list[ServedRow]]:
        """Hands the rows of a request to the engine; their pieces come into the queue."""
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Piece]]()

        def listener(index: int) -> Callable[[Piece], None]:
            def tell(piece: Piece) -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                    loop.call_soon_threadsafe(pieces.put_nowait, (index, piece))

            return tell

        rows = wanted.until(asked, deadline)
        with heard():
            return pieces, self.engine.submit([(row, listener(i)) for i, row in enumerate(rows)])

    async def _prompt_scores(
        self, request: Request, asked: Wanted
    ) -> Sequence[Sequence[TokenScore]]:
        """The scores of the prompts' tokens, where they are told."""
        scorer, scored = self.engine.scorer, asked.scored
        if asked.echo is None or scored is None or scorer is None:
            return ()
        jobs = [
            lambda ids=ids: scorer.score(ids, 1, asked.model.adapter, scored)
            for ids in asked.prompts
        ]
        return await self._computed(request, jobs)

    async def _computed(self, request: Request, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """What jobs give, one after another, so that others come in between. Raises Refusal."""
        deadline, found = time.monotonic() + self.limits.timeout, list[T]()
        for job in jobs:
            with heard():
                future = self.engine.run(job)
            try:
                waiting = asyncio.wait_for(asyncio.wrap_future(future), deadline - time.monotonic())
                found.append(await unless_gone(request, waiting))
            except TimeoutError as error:
                raise refusal.late() from error
            except UserError as error:
                raise refusal.wrong(str(error), "input") from error
            finally:
                future.cancel()
        return found


class RowsResponse(StreamingResponse):
    """A stream whose rows leave the engine with it, however it ends."""

    def __init__(self, engine: Engine, rows: Sequence[ServedRow], events: AsyncIterator[bytes]):
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._engine, self._rows = engine, rows

    async def __call__(self, scope, receive, send) -> None:
        """Sends the events."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._engine.leave(self._rows)


@contextlib.contextmanager
def heard():
    """Says what the engine says no to in the words of HTTP."""
    try:
        yield
    except Busy as error:
        raise refusal.busy(error.seconds) from error
    except Closed as error:
        raise refusal.closing() from error


async def collected(count: int, pieces: "asyncio.Queue[tuple[int, Piece]]") -> list[Piece]:
    """The one piece of each of so many rows. Raises Refusal where one has no whole answer."""
    found: dict[int, Piece] = {}
    while len(found) < count:
        index, piece = await pieces.get()
        check_end(piece)
        found[index] = piece
    return [found[index] for index in range(count)]


async def streamed(
    asked: Wanted, telling: answers.Telling, pieces: "asyncio.Queue[tuple[int, Piece]]"
) -> AsyncIterator[bytes]:
    """The events of a stream."""
    ended, made = 0, 0
    while ended < len(asked.rows):
        index, piece = await pieces.get()
        try:
            check_end(piece)
        except Refusal as error:
            yield event(error.body)
            return
        yield event(telling.part(index, piece))
        if piece.ended:
            ended, made = ended + 1, made + piece.tokens
    if asked.usage:
        yield event(telling.counted(made))
    yield DONE


def check_end(piece: Piece) -> None:
    """Raises Refusal where an answer ended before its end."""
    if piece.ended == "late":
        raise refusal.late()
    if piece.ended == "failed":
        raise refusal.failed()


def event(content: Mapping[str, Any]) -> bytes:
    """A server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()


def make_app(served: Served, engine: Engine, limits: Limits, api_key: str | None = None) -> FastAPI:
    """The application that a server of ASGI runs."""
    api, measures = Api(served, engine, limits), Measures(engine)
    app = FastAPI(title="gpt2-tuning", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.measures = measures

    async def metrics() -> Response:
        return Response(measures.text(), media_type=measures.media_type)

    answered: dict[str, Callable[..., Any]] = {
        "/healthz": api.health,
        "/metrics": metrics,
        "/v1/models": api.models,
        "/v1/models/{name:path}": api.model,
        "/v1/completions": api.completions,
        "/v1/chat/completions": api.chat,
        "/v1/classify": api.classify,
        "/v1/embeddings": api.embeddings,
    }
    for path, answer in answered.items():
        method = "POST" if path in BODIES else "GET"
        app.add_api_route(path, answer, methods=[method], response_model=None)

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> Response:
        return JSONResponse(error.body, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        said = f"{error.detail}: {request.method} {request.url.path[:200]}"
        other = Refusal(error.status_code, said)
        return JSONResponse(other.body, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=GONE)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return JSONResponse(refusal.failed().body, 500)

    app.add_middleware(Guard, measures=measures, api_key=api_key)
    return app
