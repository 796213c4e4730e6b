"""What a server bounds, who it refuses, and what becomes of those who go away."""

import json
import socket
import threading
import time

import pytest
from http_server import MISSING, detail, needs_serve, serving

from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.serving.rows import Asked
from gpt2_tuning.serving.wanted import Limits, completion

if not MISSING:
    import openai

pytestmark = needs_serve


def test_a_key_is_asked_for_where_there_is_one(served):
    with serving(served, api_key="secret") as running:
        with pytest.raises(openai.AuthenticationError):
            running.client().models.list()
        assert running.client(api_key="secret").models.list().data
        assert running.send("/healthz")[0] == 200
        for given, status in (
            ("bearer  secret", 200),
            *(("Basic secret", 401), ("secret", 401), ("Bearer", 401), ("Bearer secret x", 401)),
        ):
            assert running.send("/v1/models", headers={"authorization": given})[0] == status


def test_more_answers_than_may_wait_are_refused_before_anything_is_done_for_them(served):
    with serving(served, queue=3) as running:
        running.engine.run = None
        asked = {"model": "base", "echo": True, "logprobs": 1}
        for fields, field in (({"prompt": "a", "n": 4}, "n"), ({"prompt": ["a"] * 4}, "prompt")):
            status, body = running.ask("/v1/completions", {**asked, **fields})
            assert (status, body["error"]["param"]) == (400, field)


def test_all_answers_to_a_prompt_share_one_copy_of_it(served):
    body = {"model": "base", "prompt": [[1, 2], [3]], "n": 128}
    rows = completion(body, served, Limits()).rows
    assert len({id(row.prompt) for row in rows}) == 2


def test_one_too_many_is_told_when_to_come_again(served):
    with serving(served, slots=1, queue=1) as running:
        row = Asked((1,), Generation(max_new_tokens=60), streamed=True)
        rows = running.engine.submit([(row, lambda piece: time.sleep(0.3))])
        while running.engine.waiting:
            time.sleep(0.01)
        rows += running.engine.submit([(row, lambda piece: None)])
        with pytest.raises(openai.RateLimitError) as refused:
            running.client().completions.create(model="base", prompt="one")
        assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
        running.engine.leave(rows)
    assert detail(refused.value)["code"] == "queue_full"


def test_limits_of_bodies_tokens_and_time_are_kept(served):
    limits = Limits(max_tokens=5, max_body=2000, timeout=0.5)
    with serving(served, limits=limits) as running:
        client = running.client()
        with pytest.raises(openai.BadRequestError) as refused:
            client.completions.create(model="base", prompt="one", max_tokens=6)
        assert detail(refused.value)["param"] == "max_tokens"
        status, body = running.ask("/v1/completions", {"prompt": "x" * 3000})
        assert (status, body["error"]["code"]) == (413, "body_too_large")
        found = client.chat.completions.create(
            model="run", messages=[{"role": "user", "content": "a"}], temperature=0
        )
        assert found.usage.completion_tokens == 5
        advance = running.engine._batch.advance

        def slowly(count):
            time.sleep(0.4)
            return advance(1)

        running.engine._batch.advance = slowly
        with pytest.raises(openai.InternalServerError) as late:
            client.completions.create(model="base", prompt="one", max_tokens=5)
        assert late.value.status_code == 504


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_row(running, stream):
    body = json.dumps({"model": "base", "prompt": "a", "max_tokens": 60, "stream": stream, "n": 3})
    advance, seen = running.engine._batch.advance, threading.Event()

    def slowly(count):
        seen.set()
        time.sleep(0.1)
        return advance(1)

    running.engine._batch.advance = slowly
    try:
        with socket.create_connection(("127.0.0.1", running.port)) as connection:
            head = (
                f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            )
            connection.sendall((head + body).encode())
            assert seen.wait(60)
        gone = time.monotonic()
        while running.engine.running:
            time.sleep(0.02)
            assert time.monotonic() - gone < 3, "60 turns of 0.1 s would be the whole answer"
    finally:
        running.engine._batch.advance = advance


def test_prometheus_reads_what_was_done(running, client):
    client.completions.create(model="base", prompt="one", max_tokens=3, temperature=0)
    status, headers, text = running.send("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    lines = dict(line.rsplit(" ", 1) for line in text.decode().splitlines() if line[0] != "#")
    done = 'gpt2_tuning_requests_total{path="/v1/completions",status="200"}'
    assert float(lines[done]) >= 1
    assert float(lines["gpt2_tuning_new_tokens_total"]) >= 3
    assert float(lines["gpt2_tuning_rows_running"]) == 0
    running.send("/v1/anything")
    assert "anything" not in running.send("/metrics")[2].decode()


def test_a_failure_of_ours_is_said_as_such(running, client):
    advance = running.engine._batch.advance
    running.engine._batch.advance = lambda count: 1 / 0
    try:
        with pytest.raises(openai.InternalServerError) as failed:
            client.completions.create(model="base", prompt="one", max_tokens=3)
        assert detail(failed.value)["code"] == "failed"
        with pytest.raises(openai.APIError):
            list(client.completions.create(model="base", prompt="one", max_tokens=3, stream=True))
    finally:
        running.engine._batch.advance = advance
    assert client.completions.create(model="base", prompt="one", max_tokens=3).choices
