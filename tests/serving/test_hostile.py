"""Whatever is sent, the answer is no 500, and the next one who asks is answered."""

import json
import random
import socket
import string

import pytest
from http_server import needs_serve, serving

from gpt2_tuning.serving import body
from gpt2_tuning.serving.wanted import Limits

pytestmark = needs_serve
REQUESTS = 1000
TABLES = {
    "/v1/completions": body.COMPLETION,
    "/v1/chat/completions": body.CHAT,
    "/v1/embeddings": body.EMBED,
    "/v1/classify": body.CLASSIFY,
}
FIELDS = (
    *("model", "prompt", "messages", "input", "max_tokens", "temperature", "top_p", "n", "stop"),
    *("seed", "stream", "stream_options", "logprobs", "top_logprobs", "echo", "logit_bias"),
    *("top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "best_of"),
    *("tools", "response_format", "encoding_format", "pooling", "dimensions", "user", "suffix"),
)
VALUES: tuple = (
    *(None, True, False, 0, 1, -1, 2, 0.5, 1e308, -1e308, 5e-324, 2**31, 2**63, -(2**63), 10**400),
    *(
        "",
        " ",
        "run",
        "talk",
        "a" * 5000,
        "\x00",
        "\ud800",
        "\U0001f600",
        "<|endoftext|>",
        "base64",
    ),
    *([], {}, [[]], [{}], [None], [1], [True], [0.5], [10**30], [-1], ["a", 1], ["a"], [[1], [2]]),
    *([["a", "b"]], [50256], [50257], [1] * 70, {"a": {"b": []}}, {"include_usage": 3}),
    *([{"role": "user", "content": "a"}], [{"role": "user", "content": "\ue000\ue001" * 40}]),
    *([{"role": "user"}], [{"role": [], "content": {}}], [{"content": [{"type": {}, "text": 3}]}]),
    *([{"role": "assistant", "content": ""}], [["role"]], {"type": "text"}),
)
RAW = (
    *(b"", b"{", b"null", b"[]", b'"a"', b"\xff\xfe", b"{" * 5000, b"[" * 100000, b"NaN", b"1e999"),
    *(b'{"a": NaN}', b'{"a": 1e999}', b'{"model": "run", "model": "talk"}', b"\x00" * 100),
    b'{"a": ' + b"[" * 50000 + b"]" * 50000 + b"}",
    b'{"prompt": ' + b"9" * 5000 + b"}",
    b'{"prompt": "\\ud800", "model": "run"}',
    b'{"prompt": "' + b"x" * 200_000 + b'"}',
)
LINES = (
    b"GET / HTTP/1.1\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -4\r\n\r\n{}",
    b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n{}",
    b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"\x16\x03\x01\x02\x00" * 20,
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /v1/models/%00%ff/../.. HTTP/1.1\r\nhost: x\r\n\r\n",
)


@pytest.fixture(scope="module")
def running(served):
    with serving(served, slots=8, limits=Limits(max_tokens=4, max_body=100_000)) as made:
        yield made
        assert made.engine.counts.failures == 0


def body_of(draw):
    """A body that is nearly right, or nothing like it."""
    if draw.random() < 0.1:
        return draw.choice(RAW)
    needed = {
        "model": draw.choice(["run", "talk"]),
        "prompt": "a",
        "messages": [{"role": "user", "content": "a"}],
        "input": "a",
        "max_tokens": 2,
    }
    kept = {name: value for name, value in needed.items() if draw.random() < 0.6}
    wrong = {draw.choice(FIELDS): draw.choice(VALUES) for _ in range(draw.randint(0, 2))}
    if draw.random() < 0.1:
        wrong["".join(draw.choices(string.printable, k=draw.randint(0, 40)))] = 1
    return json.dumps({**kept, **wrong}).encode()


def nearly_right(draw, path):
    """A body with every field that is needed and one that is anything."""
    fields = {
        "model": "run",
        "prompt": "a",
        "messages": [{"role": "user", "content": "a"}],
        "input": "a",
        "max_tokens": 2,
    }
    kept = {name: value for name, value in fields.items() if name in TABLES[path]}
    field = draw.choice(list(TABLES[path] if draw.random() < 0.7 else body.IGNORED))
    return json.dumps({**kept, field: draw.choice(VALUES)}).encode()


def test_no_body_is_answered_with_a_500(running):
    draw, seen = random.Random(0), dict[int, int]()
    for number in range(REQUESTS):
        path = draw.choice(list(TABLES))
        sent = nearly_right(draw, path) if number % 2 else body_of(draw)
        status, _, answer = running.send(path, sent or b" ")
        seen[status] = seen.get(status, 0) + 1
        assert status in (200, 400, 404, 413), (path, sent[:300], status, answer)
        if status != 200:
            error = json.loads(answer)["error"]
            assert error["message"], sent
            assert error["type"], sent
        else:
            assert b'"error"' not in answer, sent
    assert seen[200] > REQUESTS / 20
    assert seen[400] > REQUESTS / 4
    assert seen[404]
    assert seen[413]


def test_what_is_no_http_ends_nothing(running):
    for line in LINES:
        with socket.create_connection(("127.0.0.1", running.port), timeout=60) as connection:
            connection.sendall(line)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.makefile("rb").readline()
            assert not answer or answer.split()[1] != b"500", line
    for method in ("PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
        assert running.send("/v1/completions", b"{}", method=method)[0] == 405
    fields = {"model": "run", "prompt": "a", "max_tokens": 3, "temperature": 0}
    assert running.ask("/v1/completions", fields)[0] == 200
    assert running.send("/healthz")[0] == 200
