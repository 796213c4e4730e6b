"""A SavedModel answers as the runs do, from texts alone, where this library is not there."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from exported_runs import CONFIG, SEQ_LEN, write_other_runs, write_runs
from hard_texts import HARD_TEXTS
from samples import randomize
from script_runs import listing, names, refused

from gpt2_tuning.__main__ import main
from gpt2_tuning.commands.export_runs import finished
from gpt2_tuning.data.prompts import Template
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.inference.classification import classify
from gpt2_tuning.inference.generation import generate, generate_text
from gpt2_tuning.inference.signatures import written_tokens
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.language_model import LanguageModel

pytestmark = pytest.mark.slow

NEW = 12
"""Tokens that language models write."""
TEXTS = [text[:3000] for text in HARD_TEXTS if text.strip()]
"""Some of them are longer than SEQ_LEN tokens."""
QUESTIONS = [
    ("Name three birds.", ""),
    ("\u00a0 Sum this up.\n", "  It rained all day, don't you think?  "),
    ("Was heißt 漢字?", "\n\t "),
    ("{context} <|endoftext|>", "{response}"),
]

ALONE = """
import json, sys

sys.path = [place for place in sys.path if "gpt2_tuning" not in place]
for name in ("gpt2_tuning", "keras", "tokenizers", "tensorflow_text"):
    sys.modules[name] = None  # as if it were not installed
import tensorflow as tf

model = tf.saved_model.load(sys.argv[1])
found = {}
for name, inputs in json.load(open(sys.argv[2])).items():
    tensors = {key: tf.constant(value) for key, value in inputs.items()}
    answer = model.signatures[name](**tensors)
    found[name] = {key: value.numpy().tolist() for key, value in answer.items()}
text = lambda value: value.decode("utf-8")
json.dump(found, open(sys.argv[3], "w"), default=text)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    directory = tmp_path_factory.mktemp("savedmodel")
    write_runs(directory)
    return directory


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    directory = tmp_path_factory.mktemp("others")
    write_other_runs(directory)
    return directory


def export(output, *runs):
    flags = ["--to", "savedmodel", "--output", output, "--max_new_tokens", NEW]
    return main(["export", *map(str, [*runs, *flags])])


@pytest.fixture(scope="module")
def three(home):
    """Three tasks' adapters of one base in one SavedModel."""
    out = home / "three"
    assert export(out, *(home / "runs" / name for name in ("mood", "pairs", "follow"))) == 0
    return out


def answers_alone(directory, inputs, tmp_path):
    """What a process answers that has TensorFlow and nothing of ours."""
    (tmp_path / "inputs.json").write_text(json.dumps(inputs))
    files = [str(tmp_path / name) for name in ("inputs.json", "found.json")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(directory), *files],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))


def classified(run, examples):
    model = run.model()
    assert isinstance(model, Classifier)
    return classify(model, examples, seq_len=SEQ_LEN)


def assert_labels(found, wanted):
    for row, one in enumerate(wanted):
        assert found["classes"][row] == list(one.probabilities)
        np.testing.assert_allclose(
            found["probabilities"][row], list(one.probabilities.values()), atol=1e-5
        )
        assert found["label"][row] == one.label


def test_three_tasks_answer_as_their_runs_do_in_a_process_without_this_library(
    home, three, tmp_path
):
    pairs = [(TEXTS[i], TEXTS[-1 - i]) for i in range(len(TEXTS))]
    inputs = {
        "mood": {"text": TEXTS},
        "pairs": dict(zip(("premise", "hypothesis"), zip(*pairs, strict=True), strict=True)),
        "follow": dict(zip(("instruction", "context"), zip(*QUESTIONS, strict=True), strict=True)),
        "serving_default": {"text": TEXTS[:1]},
    }
    found = answers_alone(three, inputs, tmp_path)
    runs = {name: finished(home / "runs" / name) for name in ("mood", "pairs", "follow")}
    moods = classified(runs["mood"], [(text,) for text in TEXTS])
    assert len({one.label for one in moods}) > 1
    assert_labels(found["mood"], moods)
    assert_labels(found["serving_default"], moods[:1])
    assert_labels(found["pairs"], classified(runs["pairs"], pairs))
    template = Template.from_metadata(runs["follow"].metadata.template)
    model = runs["follow"].model()
    assert isinstance(model, LanguageModel)
    prompts = [template.prompt(*question) for question in QUESTIONS]
    texts = generate_text(model, prompts, max_new_tokens=NEW)
    assert len(set(texts)) > 2
    assert found["follow"]["text"] == [text.strip() for text in texts]


def test_the_base_is_held_once(home, three):
    loaded = tf.saved_model.load(str(three))
    sizes = [variable.shape for variable in loaded.held]
    assert sizes.count([50257, 16]) == 1
    base = sum(file.stat().st_size for file in (home / "base").glob("model.safetensors"))
    held = sum(file.stat().st_size for file in (three / "variables").iterdir())
    assert held < 1.1 * base


def test_a_row_does_not_depend_on_its_batch_and_a_batch_may_have_none(three):
    loaded = tf.saved_model.load(str(three))
    mood, follow = loaded.signatures["mood"], loaded.signatures["follow"]
    together = mood(text=tf.constant(TEXTS))["probabilities"].numpy()
    alone = [mood(text=tf.constant([text]))["probabilities"].numpy()[0] for text in TEXTS[:6]]
    np.testing.assert_allclose(together[:6], alone, atol=1e-5)
    assert mood(text=tf.constant([], tf.string))["label"].shape == (0,)
    instructions, contexts = (tf.constant(list(part)) for part in zip(*QUESTIONS, strict=True))
    written = follow(instruction=instructions, context=contexts)["text"].numpy().tolist()
    for row, text in enumerate(written):
        one = slice(row, row + 1)
        assert follow(instruction=instructions[one], context=contexts[one])["text"][0] == text


def test_texts_that_cannot_be_answered_are_refused_with_the_reason(home, three):
    loaded = tf.saved_model.load(str(three))
    with pytest.raises(tf.errors.InvalidArgumentError, match="a text of premise is empty"):
        loaded.signatures["pairs"](premise=tf.constant([""]), hypothesis=tf.constant(["a"]))
    long = tf.constant(["a b " * 300])
    for _ in range(8):  # whatever else is computed of it at the same time
        with pytest.raises(tf.errors.InvalidArgumentError, match="more tokens than the 244 that"):
            loaded.signatures["follow"](instruction=long, context=tf.constant([""]))


def test_a_run_of_conversations_answers_a_message(home, tmp_path):
    out, run = tmp_path / "talk", finished(home / "runs" / "talk")
    assert export(out, home / "runs" / "talk") == 0
    talk = tf.saved_model.load(str(out)).signatures["serving_default"]
    messages = ["Hello there, who are you?", "  <|endoftext|> is no end \n"]
    found = [text.decode() for text in talk(message=tf.constant(messages))["text"].numpy()]
    assert run.chat is not None
    model = run.model()
    assert isinstance(model, LanguageModel)
    prompts = [run.chat.text_of([{"role": "user", "content": text}], True) for text in messages]
    wanted = generate_text(model, prompts, max_new_tokens=NEW)
    assert found == [text.strip() for text in wanted]


def test_a_template_that_changes_messages_is_refused(home, tmp_path, capsys):
    for name, text, reason in (
        ("upper", "{{ messages[0].content | upper }}", "changes what a message says"),
        ("ends", "{{ eos_token + messages[0].content }}", "writes <|endoftext|> around"),
    ):
        run = tmp_path / name
        shutil.copytree(home / "runs" / "talk", run)
        content = json.loads((run / "metadata.json").read_bytes())
        content["template"]["text"] = text
        (run / "metadata.json").write_text(json.dumps(content))
        flags = ["export", run, "--to", "savedmodel", "--output", tmp_path / "out"]
        assert reason in refused(main, capsys, *flags)
    assert listing(tmp_path) == ["ends", "upper"]


def test_other_tokenizers_take_and_give_token_ids(others, tmp_path):
    out = tmp_path / "both"
    assert export(out, others / "runs" / "kinds", others / "runs" / "tides") == 0
    assert {"tokenizer.json", "tokenizer_config.json"} <= names(out / "assets.extra")
    loaded = tf.saved_model.load(str(out))
    kinds, tides = (finished(others / "runs" / name) for name in ("kinds", "tides"))
    tokenizer = tides.metadata.tokenizer
    texts = ["The tide comes in", "Flut"]
    rows = tf.ragged.constant(tokenizer.encode_batch(texts), tf.int32)
    ids, mask = rows.to_tensor(), tf.sequence_mask(rows.row_lengths(), dtype=tf.int32)
    found = loaded.signatures["kinds"](token_ids=ids, attention_mask=mask)
    wanted = classified(kinds, [(text,) for text in texts])
    shares = [list(one.probabilities.values()) for one in wanted]
    np.testing.assert_allclose(found["probabilities"], shares, atol=1e-5)
    model = tides.model()
    assert isinstance(model, LanguageModel)
    continued = generate(model, texts, max_new_tokens=NEW)
    for flipped in (False, True):  # padded on the right, and on the left
        pad = [tf.reverse_sequence(part, rows.row_lengths(), 1) for part in (ids, mask)]
        given = [tf.reverse(part, [1]) for part in pad] if flipped else [ids, mask]
        found = loaded.signatures["tides"](token_ids=given[0], attention_mask=given[1])
        new = tf.ragged.boolean_mask(found["token_ids"], found["attention_mask"] == 1)
        assert new.to_list() == [list(one.token_ids) for one in continued]


def test_a_row_ends_before_the_token_that_ends_texts():
    model = randomize(GPT2LanguageModel(CONFIG).built_now())
    ids = tf.constant([[5, 6, 7], [900, 8, 20000]])
    inputs = {"token_ids": ids, "attention_mask": tf.ones_like(ids)}

    def written():
        answer = written_tokens(model, NEW).answer
        found = tf.function(lambda: answer(inputs), autograph=False)()
        return tf.ragged.boolean_mask(found["token_ids"], found["attention_mask"] == 1).to_list()

    whole = written()
    assert all(len(row) == NEW for row in whole)
    # Now a token is the end that some row has in its middle.
    end = next(token for token in whole[0] if token != whole[0][0])
    model.tokenizer = GPT2Tokenizer()
    model.tokenizer.end = end
    rows = [row[: row.index(end)] if end in row else row for row in whole]
    assert 0 < len(rows[0]) < NEW
    assert written() == rows


def test_a_model_for_transformers_has_its_own_tokenizer(others, tmp_path):
    run, out = others / "runs" / "tides", tmp_path / "tides"
    assert main(["export", str(run), "--to", "hf", "--output", str(out)]) == 0
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (out / name).read_bytes() == (run / name).read_bytes()
    tokenizer = finished(run).metadata.tokenizer
    ids = {"eos_token_id": tokenizer.end, "pad_token_id": tokenizer.pad}
    assert json.loads((out / "generation_config.json").read_bytes()) == ids
    assert ids["eos_token_id"] != ids["pad_token_id"]


def test_runs_that_do_not_go_together_are_refused_in_one_line(home, others, tmp_path, capsys):
    def line(*runs, more=()):
        flags = ["--to", "savedmodel", "--output", tmp_path / "out", *more]
        return refused(main, capsys, "export", *runs, *flags)

    mood, talk = home / "runs" / "mood", home / "runs" / "talk"
    assert f"run {talk} tuned its whole model" in line(mood, talk)
    assert "kinds has another base than the first" in line(mood, others / "runs" / "kinds")
    assert "two runs would both be signature" in line(mood, mood)
    assert "--max_new_tokens must be below the model's 256 positions" in line(
        talk, more=["--max_new_tokens", 256]
    )
    assert not listing(tmp_path)
