"""A public address is told where Gradio's servers gave one; the page is there either way.

Those servers are not asked: what Gradio makes the way to them with is replaced.
"""

import urllib.request

import pytest
from chat_runs import left_run, prepared

from gpt2_tuning.chat.opened import open_runs
from gpt2_tuning.commands.chat import free_port, texts_of

gradio = pytest.importorskip("gradio")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    home = prepared(tmp_path_factory.mktemp("home"))
    left_run(home, "labels", "classes")
    return open_runs([home / "labels"], {}, texts_of)


def no_way(**asked):
    raise RuntimeError("no network")


@pytest.mark.parametrize(
    ("tunnel", "share", "expected"),
    [
        (lambda **asked: "https://some.gradio.live", True, "https://some.gradio.live"),
        (no_way, True, ""),
        (no_way, False, ""),
    ],
    ids=["given", "not to be had", "not asked for"],
)
def test_the_page_has_the_public_address_that_it_was_given(
    monkeypatch, runs, tunnel, share, expected
):
    from gpt2_tuning.chat.page import served

    monkeypatch.setattr(gradio.networking, "setup_tunnel", tunnel)
    with served(runs, "127.0.0.1", free_port("127.0.0.1", None), share) as (local, public):
        assert public == expected
        with urllib.request.urlopen(local, timeout=60) as answer:
            assert b"gradio" in answer.read()
