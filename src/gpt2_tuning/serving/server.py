"""A server from its first moment to its last: the port, the model, the requests, the end.

Needs the extra `serve`.
"""

import logging
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import uvicorn

from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.serving.api import make_app
from gpt2_tuning.serving.engine import Engine
from gpt2_tuning.serving.rows import Asked
from gpt2_tuning.serving.served import Served, load
from gpt2_tuning.serving.wanted import Limits

BACKLOG = 2048
"""Connections that the system keeps until they are looked at."""
KEPT = 15
"""Seconds that an idle connection stays open."""
LOCAL = ("127.0.0.1", "::1", "localhost")


def serve(
    target: str,
    adapters: Mapping[str, Path],
    address: tuple[str, int],
    slots: int,
    queue: int,
    limits: Limits,
    api_key: str | None,
) -> None:
    """Answers until a signal comes; then it finishes what it has, and takes no more.

    Args:
        target: as `served.load`'s.
        adapters: by their names, as there.
        address: where it listens; port 0 is any that is free.
        slots: answers that are computed together.
        queue: answers that may wait.
        limits: of a request.
        api_key: that must come with requests, if any must.

    Raises:
        UserError: the port is taken, or what is to be served is not there.
    """
    with listening(*address) as listener:
        served = load(target, adapters)
        engine = Engine(served.language_model, served.tokenizer, slots, queue)
        try:
            warm_up(engine)
            app = make_app(served, engine, limits, api_key)
            config = uvicorn.Config(
                app,
                log_level=logging.WARNING,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEPT,
                timeout_graceful_shutdown=int(limits.timeout) + 1,
            )
            say(served, listener, address[0], api_key)
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            engine.close(limits.timeout)


def listening(host: str, port: int) -> socket.socket:
    """A socket that has the port, before the model is read: so one that is taken is said at once.

    Raises:
        UserError: it is taken, or there is no such host.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host {host} is no address of this machine: {error}") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise UserError(
            f"cannot listen on {host}, port {port}: {error.strerror or error}: give another "
            "--port, or --port 0 for any that is free"
        ) from error
    return listener


def warm_up(engine: Engine) -> None:
    """Has everything compiled that an answer needs, before the first is asked for."""
    if engine.scorer is None:
        return
    done = threading.Event()
    engine.submit(
        [(Asked((0,), Generation(max_new_tokens=2, temperature=1)), lambda piece: done.set())]
    )
    done.wait()


def say(served: Served, listener: socket.socket, host: str, api_key: str | None) -> None:
    """Prints what is served and where."""
    port = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    print(f"models: {', '.join(served.models)}")
    print(f"serving at http://{shown}:{port}/v1 (Ctrl-C ends it)", flush=True)
    if host not in LOCAL and api_key is None:
        print(
            "note: whoever reaches this address may ask: give --api_key, or leave out --host",
            file=sys.stderr,
        )
