"""The chat page in a real Chromium: asked, stopped and looked at, as wide as a desk and a phone.

Where Chromium or the extra is missing these tests say so as warnings, which the summary shows.
"""

import importlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings

import pytest
from chat_runs import left_run, prepared

from gpt2_tuning.chat.opened import BASE, TUNED, open_runs
from gpt2_tuning.chat.writing import answers, replies
from gpt2_tuning.commands.chat import free_port, texts_of
from gpt2_tuning.data.conversations import ASSISTANT, USER, Messages
from gpt2_tuning.inference.generation_settings import Generation

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = {"desk": (1280, 900), "phone": (390, 844)}
SECONDS = 60
"""That an answer may take on a machine that does much else."""
SHORT = Generation(max_new_tokens=12)
LONG_ENOUGH = 900
"""Tokens of an answer that can be stopped."""


def left_out(reason):
    """Skips, and says so where a summary of warnings has it."""
    warnings.warn(f"THE CHAT PAGE WAS NOT TRIED IN A BROWSER: {reason}", stacklevel=2)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = prepared(tmp_path_factory.mktemp("home"))
    left_run(home, "form", "form")
    left_run(home, "tone", "form", seed=1)
    left_run(home, "talk", "talk", base="other-base")
    left_run(home, "classes", "classes")
    left_run(home, "pairs", "pairs")
    return home


def playwright():
    """Its module, which not everybody has."""
    return importlib.import_module("playwright.sync_api")


@pytest.fixture(scope="module")
def browser():
    if not importlib.util.find_spec("playwright"):
        left_out("playwright is not installed: pip install playwright")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        left_out("no Chromium is installed: apt-get install chromium")
    with playwright().sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(home):
    """The page, served by the command in a process of its own, which SIGTERM ends with 143."""
    if not importlib.util.find_spec("gradio"):
        left_out('gradio is not installed: pip install -e ".[chat]"')
    runs = [str(home / name) for name in ("form", "talk", "classes", "pairs")]
    adapter = ["--adapter", f"tone={home / 'tone'}", "--port", str(free_port("127.0.0.1", None))]
    command = [sys.executable, "-m", "gpt2_tuning", "chat", *runs, *adapter]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        waiting = threading.Timer(SECONDS, process.kill)
        waiting.start()
        assert process.stdout
        line = process.stdout.readline()
        waiting.cancel()
        found = re.fullmatch(r"page: (http://127\.0\.0\.1:\d+/)  \(Ctrl-C ends it\)\n", line)
        assert found, line
        yield found[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143


@pytest.fixture
def opened(browser, address):
    """Opens the page; whatever it asks of other machines, and any error, is a defect."""
    wrong, pages = [], []

    def asked(request):
        if not request.url.startswith((address, "data:", "blob:")):
            wrong.append(request.url)

    def open_at(width="desk", scheme="light"):
        width, height = WIDTHS[width]
        page = browser.new_page(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
        )
        page.set_default_timeout(SECONDS * 1000)
        page.on("request", asked)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        page.get_by_role("tab", name="form", exact=True).wait_for()
        pages.append(page)
        return page

    yield open_at
    for page in pages:
        page.close()
    assert wrong == []


def part(page, run):
    """The part of a run."""
    page.get_by_role("tab", name=run, exact=True).click()
    return page.locator("[role=tabpanel]:visible").first


def box(part, name):
    """The field of a name."""
    return part.locator(f".at-{name} textarea:visible")


def shows(field, text):
    """Waits until a field shows a text."""
    playwright().expect(field).to_have_value(text, timeout=SECONDS * 1000)


def set_tokens(part, number):
    field = part.get_by_role("spinbutton", name="number input for Most new tokens")
    field.fill(str(number))
    field.press("Tab")


def test_a_form_is_answered_by_both_as_the_library_would(opened, home):
    page = opened()
    form = part(page, "form")
    form.locator(".at-ask").click()
    page.get_by_text("the instruction is empty").wait_for()
    set_tokens(form, SHORT.max_new_tokens)
    box(form, "instruction").fill("Name a sea.")
    box(form, "context").fill("It is cold.")
    form.locator(".at-ask").click()
    (run,) = open_runs([home / "form"], {"tone": home / "tone"}, texts_of)
    voices = [run.voice(name) for name in (TUNED, BASE, "tone")]
    *_, expected = answers(run, voices, ("Name a sea.", "It is cold."), SHORT)
    assert len(set(expected)) == 3
    shows(box(form, "left-answer"), expected[0])
    shows(box(form, "right-answer"), expected[1])
    form.locator(".at-right-voice input").click()
    page.get_by_role("option", name="tone").click()
    form.locator(".at-ask").click()
    form.locator(".at-right-answer").get_by_text("tone", exact=True).wait_for()
    shows(box(form, "right-answer"), expected[2])


def test_an_answer_can_be_stopped_and_the_next_one_comes(opened):
    page = opened()
    form = part(page, "form")
    set_tokens(form, LONG_ENOUGH)
    box(form, "instruction").fill("Count.")
    form.locator(".at-ask").click()
    page.wait_for_function("document.querySelector('.at-left-answer textarea').value.length > 0")
    form.locator(".at-stop-writing").click()
    page.wait_for_timeout(1000)  # for what was on its way
    stopped = box(form, "left-answer").input_value()
    page.wait_for_timeout(4000)
    assert box(form, "left-answer").input_value() == stopped
    form.locator(".at-ask").click()
    longer_than(page, len(stopped))


def longer_than(page, length):
    """Waits until the answer on the left has more characters."""
    page.wait_for_function(
        f"document.querySelector('.at-left-answer textarea').value.length > {length}"
    )


def test_a_conversation_goes_on_and_begins_again(opened, home):
    page = opened("phone", "dark")
    talk = part(page, "talk")
    set_tokens(talk, SHORT.max_new_tokens)
    (run,) = open_runs([home / "talk"], {}, texts_of)
    voices = [run.voice(name) for name in (TUNED, BASE)]
    expected: list[Messages] = [[], []]
    for text in ("Name a sea.", "Is <b>bold</b> &lt; <script>1</script>?"):
        *_, expected = replies(run, voices, expected, text, SHORT)
        box(talk, "message").fill(text)
        talk.locator(".at-ask").click()
        for side, said in zip(("left", "right"), expected, strict=True):
            for role, kind in ((USER, "user"), (ASSISTANT, "bot")):
                texts = [one["content"] for one in said if one["role"] == role]
                messages = talk.locator(f".at-{side}-talk .message.{kind}")
                playwright().expect(messages).to_have_text(texts, timeout=SECONDS * 1000)
    talk.locator(".at-new").click()
    talk.locator(".at-left-talk .message").first.wait_for(state="detached")


@pytest.mark.parametrize("name", ["classes", "pairs"])
def test_texts_are_labelled_and_their_tokens_coloured(opened, name):
    page = opened("phone")
    labels = part(page, name)
    texts = {"classes": ["text"], "pairs": ["premise", "hypothesis"]}[name]
    for text in texts:
        box(labels, text).fill("i feel <b>fine</b>")
    labels.locator(".at-ask").click()
    labels.locator(".bars .name.first").wait_for()
    shares = [float(one.rstrip("%")) for one in labels.locator(".bars .number").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.5)
    assert re.search("Gradient . input", labels.locator(".at-tokens").first.inner_text())
    assert labels.locator(".tokens").inner_text().startswith("i feel <b>fine</b>")
    last = labels.locator(".bars .name").last.inner_text()
    labels.locator(".at-of-class input").click()
    page.get_by_role("option", name=last, exact=True).click()
    labels.locator(".legend", has_text=f"against {last},").wait_for()


def test_a_file_of_rows_is_answered_and_taken_away(opened, tmp_path):
    source = tmp_path / "rows.csv"
    source.write_text("n,body\n1,i feel fine\n2,\n")
    page = opened()
    labels = part(page, "classes")
    labels.get_by_role("tab", name="A file of rows").click()
    labels.locator(".at-rows input[type=file]").set_input_files(source)
    column = labels.locator(".at-column-text input")
    column.click()
    page.get_by_role("option", name="body").click()
    labels.locator(".at-ask-rows").click()
    labels.locator(".at-preview th", has_text="prediction").wait_for()
    with page.expect_download() as download:
        labels.locator(".at-download").click()
    assert download.value.suggested_filename == "rows-answered.jsonl"
    rows = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    assert [row["n"] for row in rows] == ["1", "2"]
    assert rows[0]["prediction"] in rows[0]["probabilities"]
    assert "row 2: body holds no text" in rows[1]["error"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window_and_dark_is_dark(opened, width, scheme):
    page = opened(width, scheme)
    for run in ("form", "talk", "classes", "pairs"):
        part(page, run)
        page.wait_for_timeout(300)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= WIDTHS[width][0], run
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    darkness = 255 - max(map(int, re.findall(r"\d+", colour)[:3]))
    assert (darkness > 128) == (scheme == "dark")
