"""An export is uploaded by the Hub's own client, when that is asked for and not before."""

import os
import subprocess
import sys

import pytest
from exported_runs import write_runs
from hub_stand_in import TOKEN, stand_in
from script_runs import listing

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    directory = tmp_path_factory.mktemp("push")
    write_runs(directory)
    return directory


def export(home, out, hub, *more, token=TOKEN):
    """Exports the adapter of a run in a process whose Hub this is."""
    given = {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home / "cache"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": token,
    }
    flags = [home / "runs" / "mood", "--to", "adapter", "--output", out, *more]
    return subprocess.run(
        [sys.executable, "-m", "gpt2_tuning", "export", *map(str, flags)],
        env={**os.environ, **given}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_what_is_pushed_is_what_was_written_in_one_commit(home, tmp_path):
    out = tmp_path / "out"
    with stand_in() as hub:
        done = export(home, out, hub, "--push", "mood", "--private")
        assert done.returncode == 0, done.stderr
        assert f"pushed: {hub.address}/ada/mood" in done.stdout
        files = {path.name: path.read_bytes() for path in out.iterdir()}
        assert hub.repositories == {"ada/mood": files}
        assert hub.private == {"ada/mood": True}
        assert sum("/commit/" in asked for asked in hub.asked) == 1


def test_nothing_is_asked_of_the_hub_unless_told(home, tmp_path):
    with stand_in() as hub:
        assert export(home, tmp_path / "out", hub).returncode == 0
        assert not hub.asked


def test_what_cannot_be_pushed_is_one_line(home, tmp_path):
    out, more = tmp_path / "out", ("--push", "ada/mood")
    with stand_in(public=["ada/mood"], fails=["/api/repos/create"]) as hub:
        for token, reason in (("", "--push needs a token of the Hub"), ("hf_no", "take the token")):
            done = export(home, out, hub, *more, token=token)
            assert done.returncode == 2
            assert done.stderr.startswith("error: ")
            assert done.stderr.count("\n") == 1
            assert reason in done.stderr
            assert listing(tmp_path) == []
        done = export(home, out, hub, *more)
        assert done.returncode == 2
        note, line = done.stderr.splitlines()
        assert note.startswith("note: the adapter's base is ")
        assert f"{out} is whole" in line
        assert "adapter_model.safetensors" in listing(out)
        hub.fails = ()
        done = export(home, out, hub, *more, "--private")
        assert "ada/mood is there already, and everybody sees it" in done.stderr
        assert hub.repositories == {"ada/mood": {}}
