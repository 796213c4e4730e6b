"""A server on a port of this machine, in a thread of the test's process, and OpenAI's client."""

import contextlib
import importlib.util
import json
import socket
import threading
import urllib.error
import urllib.request

import pytest

from gpt2_tuning.serving.engine import Engine
from gpt2_tuning.serving.wanted import Limits

NEEDED = ("fastapi", "uvicorn", "prometheus_client", "openai")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
needs_serve = pytest.mark.skipif(
    bool(MISSING), reason=f'the extra "serve" is not installed: no {", ".join(MISSING)}'
)


def detail(error):
    """What the body of an error of OpenAI's client says."""
    return error.body


class Running:
    """A server that runs: its address, and what computes for it."""

    def __init__(self, served, engine, port):
        self.served, self.engine = served, engine
        self.url = f"http://127.0.0.1:{port}"
        self.port = port

    def client(self, **arguments):
        """OpenAI's own."""
        import openai

        given = {"api_key": "none", "max_retries": 0, "timeout": 120, **arguments}
        return openai.OpenAI(base_url=f"{self.url}/v1", **given)

    def send(self, path, content=None, headers=(), method=None):
        """The status, the headers and the body of an answer to any bytes."""
        request = urllib.request.Request(
            self.url + path, content, dict(headers), method=method or ("POST" if content else None)
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def ask(self, path, fields):
        """The status and the object of an answer to a JSON body."""
        status, _, body = self.send(path, json.dumps(fields).encode())
        return status, json.loads(body)


@contextlib.contextmanager
def serving(served, slots=4, queue=64, limits=None, api_key=None):
    """Runs a server inside the block."""
    import uvicorn

    from gpt2_tuning.serving.api import make_app

    engine = Engine(served.language_model, served.tokenizer, slots, queue)
    app = make_app(served, engine, limits or Limits(), api_key)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield Running(served, engine, listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(60)
        engine.close(60)
        listener.close()
