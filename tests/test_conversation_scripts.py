"""Conversations through the scripts: prepared, packed, tuned, scored and talked to."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from places import SHARED
from samples import randomize
from script_runs import read, refused

import instruction_tuning.prep_dataset
import instruction_tuning.test
import instruction_tuning.train
from gpt2_tuning.data.batch_arrays import PlannedBatch, language_model_batch
from gpt2_tuning.data.chat_template import DEFAULT, ChatTemplate
from gpt2_tuning.data.conversations import ASSISTANT, ConversationText
from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.data.packing import PackedSource
from gpt2_tuning.data.tfrecords import read_records
from gpt2_tuning.data.wire import serialized
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.inference.chatting import ChatResponder, talk
from gpt2_tuning.inference.generation import generate_text
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.training.objective import NextTokens

prepare = instruction_tuning.prep_dataset.main
CONFIG = GPT2Config(
    n_layer=1, n_embd=32, n_head=2, n_positions=256, initializer_range=0.2,
    embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The sample of conversations, in rows so short that some lose their beginning."""
    directory = tmp_path_factory.mktemp("conversations") / "data"
    flags = ["--dataset", "sample_conversations", "--seq_len", "120", "--output_dir"]
    assert prepare([*flags, str(directory)]) == 0
    return directory


@pytest.fixture(scope="module")
def records(data):
    return read_records(data, read_metadata(data, "instruction"), "train")


@pytest.fixture(scope="module")
def responder():
    model = randomize(GPT2LanguageModel(CONFIG).built_now())
    template = ChatTemplate.from_metadata({"name": "default", "text": DEFAULT}, model.tokenizer)
    options = instruction_tuning.test.Options(interactive=True, max_new_tokens=8)
    return ChatResponder(model, template, options)


def test_the_answers_are_learnt_and_counted(data, records, capsys):
    metadata = read_metadata(data, "instruction")
    assert metadata.columns == ["prompt_length", "learnt"]
    assert metadata.template is not None
    assert metadata.template["kind"] == "chat"
    split = metadata.splits["train"]
    assert split["supervised_tokens"] == records.target_counts.sum()
    assert split["truncated"] > 0
    counts = np.bincount(records.tokens[records.targets_at], minlength=50_257)
    answers = sum(
        int(np.count_nonzero(np.diff(records.learnt_in(row).astype(int)) == 1))
        for row in range(len(records))
    )
    assert counts[50_256] == answers > len(records)


def test_a_record_is_what_tensorflow_writes(data):
    from gpt2_tuning.data.examples import Example

    one = Example([5, 6, 7], {"prompt_length": 1, "learnt": [0, 1, 0]})
    (found,) = serialized([one], 5, ["prompt_length", "learnt"], 9)
    values = {"token_ids": [5, 6, 7, 9, 9], "learnt": [0, 1, 0, 0, 0]}
    values |= {"length": [3], "prompt_length": [1]}
    features = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        for name, value in values.items()
    }
    message = tf.train.Example(features=tf.train.Features(feature=features))
    assert found == message.SerializeToString(deterministic=True)


def test_packed_rows_have_the_loss_of_the_same_conversations_apart(records):
    model = randomize(GPT2LanguageModel(CONFIG).built_now())
    objective = NextTokens(model)
    packed = next(iter(PackedSource(records, 4, row_length=240).epoch(0, 0)))
    assert packed.rows is not None
    rows = np.sort(packed.rows)
    apart = language_model_batch(records, PlannedBatch(rows, 120), len(rows))
    sums = [
        [float(value) for value in objective.sums(one.inputs, one.targets, one.weights, False)]
        for one in (packed, apart)
    ]
    np.testing.assert_allclose(sums[0], sums[1], rtol=1e-4)
    assert apart.weights.sum() == records.target_counts[rows].sum()


def test_answers_are_shown_apart(tmp_path, capsys):
    flags = ["--dataset", "sample_conversations", "--limit", "20", "--show", "4"]
    assert prepare([*flags, "--output_dir", str(tmp_path / "data")]) == 0
    shown = capsys.readouterr().out
    assert shown.count("--- supervised ---") > 4


@pytest.mark.parametrize("key", ["messages", "conversations"])
def test_files_of_others_are_read(tmp_path, key, capsys):
    if key == "messages":
        source = SHARED / "cases" / "chat" / "messages.jsonl"
        if not source.is_file():
            pytest.skip("the shared cases are not here")
    else:
        rows = [
            {
                "id": n,
                key: [{"from": "human", "value": f"Say {n}."}, {"from": "gpt", "value": "So."}],
            }
            for n in range(30)
        ]
        source = tmp_path / "rows.json"
        source.write_text(json.dumps(rows))
    data = tmp_path / "data"
    assert prepare(["--train_file", str(source), "--output_dir", str(data)]) == 0
    said = "columns taken by their names: 'conversations' for --messages_column"
    assert (said in capsys.readouterr().out) == (key == "conversations")
    records = read_records(data, read_metadata(data, "instruction"), "train")
    tokenizer = read_metadata(data, "instruction").tokenizer
    learnt = tokenizer.decode(records.tokens[records.targets_at].tolist())
    assert learnt.count("<|endoftext|>") == len(records)
    expected = "So.<|endoftext|>" if key == "conversations" else ", number"
    assert learnt.count(expected) == len(records)


def test_rows_of_both_kinds_and_of_none_are_refused(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    talk_ = [{"role": "user", "content": "a"}, {"role": ASSISTANT, "content": "b"}]
    path.write_text(json.dumps({"messages": talk_, "instruction": "a", "response": "b"}))
    flags = ["--train_file", path, "--output_dir", tmp_path / "data"]
    assert "--messages_column, or with" in refused(prepare, capsys, *flags)
    kinds: list[dict] = [
        {"messages": [{**talk_[0], "content": f"{n}"}, talk_[1]]} for n in range(9)
    ]
    kinds.append({"instruction": "a"})
    path.write_text("".join(json.dumps(row) + "\n" for row in kinds))
    assert "holds no list of messages" in refused(prepare, capsys, *flags)
    path.write_text(json.dumps({"instruction": "a", "response": "b"}))
    line = refused(prepare, capsys, *flags, "--chat_template", path)
    assert "--chat_template needs conversations" in line
    assert not (tmp_path / "data").exists()


def test_talking_goes_on_from_all_that_was_said(responder, monkeypatch, capsys):
    typed = iter(["Name a sea.", "Another?", "/new", "Name a sea.", ""])
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    read_by_model = []
    stream = ChatResponder.stream_ids

    def streamed(self, ids):
        read_by_model.append(ids)
        return stream(self, ids)

    monkeypatch.setattr(ChatResponder, "stream_ids", streamed)
    talk(responder)
    tokenizer = responder.model.tokenizer
    first, second, third = read_by_model
    assert first == third
    answer = generate_text(responder.model, [first], 8)[0].strip()
    said = [
        {"role": "user", "content": "Name a sea."},
        {"role": ASSISTANT, "content": answer},
        {"role": "user", "content": "Another?"},
    ]
    assert second == responder.prompt((ConversationText(json.dumps(said)),))
    assert tokenizer.decode(second).endswith("### Instruction:\nAnother?\n\n### Response:\n")


def test_a_talk_that_grows_too_long_loses_its_beginning(responder):
    said = [{"role": "system", "content": "Be brief."}]
    for number in range(40):
        said += [{"role": "user", "content": f"Question {number}?"}]
        said += [{"role": ASSISTANT, "content": f"Answer {number}."}]
    said.append({"role": "user", "content": "The last question?"})
    ids, kept = responder.fitting(said)
    assert len(ids) <= CONFIG.n_positions - 8
    assert kept[0] == said[0]
    assert kept[1]["role"] == "user"
    assert kept[-1] == said[-1]
    assert len(kept) < len(said)


@pytest.mark.slow
def test_a_run_is_tuned_scored_and_answers_rows(data, tmp_path, capsys, monkeypatch):
    keras.utils.set_random_seed(0)
    GPT2Model(CONFIG).built_now().save_pretrained(tmp_path / "base")
    out = tmp_path / "run"
    flags = ["--pretrained", tmp_path / "base", "--epochs", 1, "--output_dir", out]
    flags = [*map(str, ["--dataset_dir", data, *flags, "--layout", "packed"])]
    assert instruction_tuning.train.main(flags) == 0
    rows = [{"messages": [{"role": "user", "content": "Add 1 and 2."}]}, {"messages": []}]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = tmp_path / "out.jsonl"
    flags = ["--run_dir", out, "--evaluate", "--rouge_rows", 2, "--max_new_tokens", 4]
    flags += ["--prompt", "Name a sea.", "--input", source, "--output", answers]
    assert instruction_tuning.test.main([*map(str, flags)]) == 0
    shown = capsys.readouterr().out
    assert "> Name a sea." in shown
    assert "ROUGE-L of 2 responses" in shown
    found = [json.loads(line) for line in answers.read_text().splitlines()]
    assert isinstance(found[0]["generated"], str)
    assert found[1]["generated"] is None
    assert "in.jsonl, row 2 holds no list of messages" in found[1]["error"]
    assert read(out)["template"]["kind"] == "chat"
