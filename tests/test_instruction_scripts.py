"""The instruction and text scripts as a user runs them: few rows, and a model of one layer."""

import json
import math
import shutil
import sys

import keras
import pytest
from script_runs import CLASSIFIER_PICTURES, RUN_FILES, names, refused, summaries

import instruction_tuning.prep_dataset
import instruction_tuning.test
import instruction_tuning.train
import text_tuning.prep_dataset
import text_tuning.test
import text_tuning.train
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_model import GPT2Model

LANGUAGE_RUN_FILES = RUN_FILES - CLASSIFIER_PICTURES
ROWS = [
    {"instruction": f"Say {word}.", "input": "", "output": f"{word}, {word}!"}
    for word in ("hello", "goodbye", "please", "thanks", "sorry", "welcome")
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A base model of one layer, six rows that are every split at once, and the data of both."""
    home = tmp_path_factory.mktemp("instruction")
    config = GPT2Config(
        n_layer=1,
        n_embd=32,
        n_head=2,
        n_positions=256,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        initializer_range=0.2,
    )
    keras.utils.set_random_seed(0)  # not every base learns the rows by heart
    GPT2Model(config).built_now().save_pretrained(home / "base")
    rows = home / "rows.json"
    rows.write_text(json.dumps(ROWS))
    files = [
        part for split in ("train", "validation", "test") for part in (f"--{split}_file", rows)
    ]
    assert prepare("instruction", *files, "--output_dir", home / "instruction") == 0
    text = home / "text.txt"
    text.write_text("The tide comes in and the tide goes out again. " * 40)
    assert prepare("text", "--train_file", text, "--output_dir", home / "text") == 0
    return home


def prepare(task, *flags):
    script = {"instruction": instruction_tuning, "text": text_tuning}[task].prep_dataset
    return script.main([str(flag) for flag in ("--seq_len", 64, *flags)])


def train(home, task: str, name: str, *flags: object) -> int:
    script = {"instruction": instruction_tuning, "text": text_tuning}[task].train
    paths = ["--dataset_dir", home / task, "--pretrained", home / "base"]
    return script.main([str(flag) for flag in (*paths, "--output_dir", home / name, *flags)])


@pytest.fixture(scope="module")
def full_run(home):
    """Tuned until it knows its six rows by heart."""
    flags = ["--lora_rank", 0, "--learning_rate", "1e-2", "--epochs", 70, "--patience", "None"]
    assert train(home, "instruction", "full", *flags, "--layout", "buckets", "--batch_size", 2) == 0
    return home / "full"


@pytest.fixture(scope="module")
def lora_run(home):
    assert train(home, "instruction", "lora", "--epochs", 1, "--learning_rate", "1e-2") == 0
    return home / "lora"


@pytest.mark.slow
def test_overfitted_rows_are_reproduced_and_end(full_run, capsys):
    """Greedy responses equal the data's: they also stop where those end, at the token 50256."""
    scores = json.loads((full_run / "validation.json").read_text())
    assert scores["token_accuracy"] >= 0.99
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    flags = [part for row in ROWS for part in ("--prompt", row["instruction"])]
    assert instruction_tuning.test.main(["--run_dir", str(full_run), *flags]) == 0
    printed = capsys.readouterr().out
    for row in ROWS:
        assert f"> {row['instruction']}\n{row['output']}\n" in printed


@pytest.mark.slow
def test_evaluation_writes_loss_and_rouge(full_run, capsys):
    assert (
        instruction_tuning.test.main(
            ["--run_dir", str(full_run), "--evaluate", "--max_new_tokens", "20"]
        )
        == 0
    )
    scores = json.loads((full_run / "test.json").read_text())
    assert scores["token_accuracy"] >= 0.99
    assert (scores["rouge_l"], scores["rouge_l_interval"]) == (1.0, [1.0, 1.0])
    assert scores["rouge_rows"] == len(ROWS)
    baseline = scores["baseline"]
    assert (
        scores["perplexity"] < baseline["perplexity"] == pytest.approx(math.exp(baseline["loss"]))
    )
    test_section = (full_run / "README.md").read_text().split("\n## Test\n")[1]
    assert (
        f"| perplexity | {scores['perplexity']:.4f} | {baseline['perplexity']:,.2f} |"
        in test_section
    )
    assert "ROUGE-L of 6 responses, with a 95 % interval: 1.0000 (no interval)" in test_section


def test_evaluation_needs_the_test_split_alone(home, lora_run, tmp_path, capsys):
    """Without the train split there is no unigram model to compare with, which is said."""
    shutil.copytree(home / "instruction", tmp_path / "data")
    (tmp_path / "data" / "train.tfrecord.gz").unlink()
    flags = ["--evaluate", "--rouge_rows", "0", "--dataset_dir", str(tmp_path / "data")]
    assert instruction_tuning.test.main(["--run_dir", str(lora_run), *flags]) == 0
    assert "note: no unigram model to compare with: " in capsys.readouterr().err
    assert "baseline" not in json.loads((lora_run / "test.json").read_text())


def test_without_rouge_score_a_line_says_so_and_the_rest_is_scored(lora_run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    assert instruction_tuning.test.main(["--run_dir", str(lora_run), "--evaluate"]) == 0
    line = "note: no ROUGE-L: it needs the package rouge-score, which is not installed: pip install"
    assert line in capsys.readouterr().err
    scores = json.loads((lora_run / "test.json").read_text())
    assert scores.keys() == {"loss", "perplexity", "token_accuracy", "baseline"}


@pytest.mark.parametrize(
    ("name", "kind"), [pytest.param("full", "model", marks=pytest.mark.slow), ("lora", "adapter")]
)
def test_a_run_leaves_its_files(request, name, kind):
    run_dir = request.getfixturevalue(f"{name}_run")
    assert names(run_dir) - {"test.json"} == LANGUAGE_RUN_FILES | {kind}
    assert "| figure | value | unigram model |" in (run_dir / "README.md").read_text()
    shown = {value.tag: value.tensor.string_val for _, value in summaries(run_dir, "result")}
    assert ROWS[0]["instruction"] in shown["responses"][0].decode()


@pytest.mark.slow
def test_base_and_tuned_stand_side_by_side(full_run, lora_run, capsys):
    for run_dir in (full_run, lora_run):
        flags = ["--prompt", "Say hello.", "--compare_base", "--max_new_tokens", "8"]
        assert instruction_tuning.test.main(["--run_dir", str(run_dir), *flags]) == 0
        printed = capsys.readouterr().out
        assert "base" in printed
        assert "Say hello." in printed


def test_a_file_is_answered_row_by_row(full_run, tmp_path):
    source, output = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows = [
        {"id": 1, "instruction": "Say sorry.", "context": None},
        {"id": 2, "instruction": "Say please.", "context": ""},
    ]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--run_dir", full_run, "--input", source, "--output", output]
    assert instruction_tuning.test.main([str(flag) for flag in flags]) == 0
    answered = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["id"] for row in answered] == [1, 2]
    assert [row["generated"] for row in answered] == ["sorry, sorry!", "please, please!"]


def test_interactive_streams_the_response(full_run, monkeypatch, capsys):
    lines = iter(["Say thanks.", "", ""])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    assert instruction_tuning.test.main(["--run_dir", str(full_run), "--interactive"]) == 0
    assert "thanks, thanks!" in capsys.readouterr().out


@pytest.mark.slow
def test_plain_text_is_learnt_and_continued(home, capsys):
    long = ["--learning_rate", "2e-2", "--epochs", 12, "--batch_size", 2, "--patience", "None"]
    assert train(home, "text", "text-run", *long) == 0
    assert names(home / "text-run") == LANGUAGE_RUN_FILES | {"model"}
    history = (home / "text-run" / "metrics.csv").read_text().splitlines()
    assert len(history) == 13
    run = ["--run_dir", str(home / "text-run"), "--max_new_tokens", "6"]
    assert text_tuning.test.main([*run, "--prompt", "The tide comes"]) == 0
    assert "> The tide comes\n in and the tide goes out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to do"),
        (["--prompt", " "], "--prompt is empty"),
        (["--prompt", "x", "--context", "a", "--context", "b"], "2 and 1 were given"),
        (["--prompt", "x", "--temperature", "0"], "--temperature must be above 0"),
        (["--prompt", "x", "--top_k", "0"], "--top_k must be at least 1"),
        (["--prompt", "x", "--top_p", "1.5"], "--top_p must be above 0 and at most 1"),
        (["--prompt", "x", "--sampling_method", "beam"], "--sampling_method"),
        (["--prompt", "x", "--stop", ""], "--stop is empty"),
        (["--prompt", "x", "--max_new_tokens", "0"], "--max_new_tokens must be at least 1"),
        (["--prompt", "word " * 200], "256 positions"),
        (["--input", "x.jsonl", "--compare_base"], "--compare_base needs --prompt"),
    ],
)
def test_wrong_use_is_one_line(full_run, capsys, flags, message):
    assert message in refused(instruction_tuning.test.main, capsys, "--run_dir", full_run, *flags)


def test_a_run_of_another_task_is_refused(full_run, capsys):
    line = refused(text_tuning.test.main, capsys, "--run_dir", full_run, "--prompt", "x")
    assert (
        "is a run of instruction, not of text: try it with `python instruction_tuning/test.py"
        in line
    )
