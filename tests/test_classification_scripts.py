"""The classification scripts as a user runs them: on a few rows, with a model of one layer."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tensorflow as tf
import yaml
from script_runs import (
    RUN_FILES,
    metrics,
    names,
    refused,
    snapshot,
    summaries,
    with_sample_and_base,
)

from classification_tuning import test, train
from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.inference.classification import classify_text
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.runs.tuned_model import load_tuned

SRC = Path(train.__file__).parents[1]
TEXTS = ["i feel so lonely tonight", "i am delighted", "<|endoftext|> is text here"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Prepared data, and a base model of one layer that every run here starts from."""
    home = tmp_path_factory.mktemp("classification")
    return with_sample_and_base(home)


def run(home, name, *flags):
    """Trains in home/name with flags that keep it short."""
    paths = ["--dataset_dir", home / "data", "--pretrained", home / "base"]
    short = ["--epochs", 2, "--learning_rate", "1e-2", "--output_dir", home / name]
    return train.main([str(flag) for flag in (*paths, *short, *flags)])


@pytest.fixture(scope="module")
def full_run(home):
    assert run(home, "full") == 0
    return home / "full"


@pytest.fixture(scope="module")
def lora_run(home):
    assert run(home, "lora", "--lora_rank", 4, "--lora_targets", "attn.c_attn", "mlp.c_fc") == 0
    return home / "lora"


def test_a_full_run_leaves_a_model_and_its_report(full_run):
    assert names(full_run) == RUN_FILES | {"model"}
    assert names(full_run / "model") == {
        "config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    }
    scores = json.loads((full_run / "validation.json").read_text())
    assert scores["examples"] == 40
    assert sum(map(sum, scores["confusion"])) == 40
    card = (full_run / "README.md").read_text()
    assert f"{scores['accuracy']:.4f}" in card
    assert "sample" in card
    # The base is a directory's: what --model_size says by default is not what was tuned.
    model = card.split("## Training")[0]
    assert "base weights: the directory base.\nIt has 1 layer of width 16 and " in model
    assert "124M" not in model


def test_a_finished_run_keeps_of_its_checkpoints_what_its_resume_needs(home, full_run, capsys):
    """Without its model it writes that again, to the same bytes."""
    copy = shutil.copytree(full_run, home / "resumed")
    shutil.rmtree(copy / "model")
    capsys.readouterr()
    assert run(home, "resumed", "--resume") == 0
    size = sum(path.stat().st_size for path in copy.rglob("*") if path.is_file()) / 1e6
    assert capsys.readouterr().out.splitlines()[-2] == f"disk: {size:.1f} MB"
    for run_dir in (full_run, copy):
        kept = {path.name for path in (run_dir / "checkpoints").rglob("*") if path.is_file()}
        assert len(kept) == 2
        assert "progress.json" in kept
    weights = [path / "model" / "model.safetensors" for path in (full_run, copy)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert metrics(full_run) == metrics(copy)
    shown = [[value.tag for _, value in summaries(path, "result")] for path in (full_run, copy)]
    assert shown[0] == shown[1]


def test_tensorboard_has_what_a_run_came_to_once(full_run):
    tags = [value.tag for _, value in summaries(full_run, "result")]
    assert len(set(tags)) == len(tags)
    figures = {"best/val_accuracy", "best/update"}
    assert {"card", "confusion_validation", "curves", *figures} <= set(tags)
    assert any("hparams" in tag for tag in tags)


def test_a_lora_run_leaves_an_adapter_alone(lora_run):
    assert names(lora_run) == RUN_FILES | {"adapter"}
    size = sum(path.stat().st_size for path in (lora_run / "adapter").iterdir())
    assert size < 50_000


@pytest.mark.slow
def test_a_lora_run_on_random_weights_keeps_its_base(home):
    flags = ["--pretrained", "none", "--model_size", "tiny", "--lora_rank", 2, "--epochs", 1]
    assert run(home, "random", *flags) == 0
    assert names(home / "random") == RUN_FILES | {"adapter", "base"}
    shutil.rmtree(home / "random" / "checkpoints")
    assert test.main(["--run_dir", str(home / "random"), "--text", "fine"]) == 0


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_run_alone_rebuilds_its_model(home, kind, request, capsys):
    """What test.py prints is what the library computes from the run's files and the base."""
    run_dir = request.getfixturevalue(f"{kind}_run")
    metadata = read_metadata(run_dir, "classification")
    model = load_tuned(GPT2Classifier, run_dir, label_names=metadata.label_names)
    expected = classify_text(model, TEXTS, seq_len=128)
    capsys.readouterr()
    flags = [part for text in TEXTS for part in ("--text", text)]
    assert test.main(["--run_dir", str(run_dir), *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    for text, prediction, shown, answer in zip(
        TEXTS, expected, lines[::2], lines[1::2], strict=True
    ):
        assert shown == text
        share = prediction.probabilities[prediction.label]
        assert answer.startswith(f"  {prediction.label}  ({prediction.label} {share:.3f}")


def test_a_file_is_labelled_row_by_row(full_run, tmp_path):
    rows = [{"id": index, "text": text, "note": "né"} for index, text in enumerate(TEXTS)]
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "new" / "labelled.jsonl"
    flags = ["--run_dir", full_run, "--input", source, "--output", output]
    assert test.main(list(map(str, flags))) == 0
    labelled = [json.loads(line) for line in output.read_text().splitlines()]
    assert [{name: row[name] for name in ("id", "text", "note")} for row in labelled] == rows
    for row in labelled:
        assert row["prediction"] == max(row["probabilities"], key=row["probabilities"].get)
        assert len(row["probabilities"]) == 6


def test_evaluation_adds_to_the_report_and_takes_nothing_from_it(full_run):
    """Pictures and figures of the validation split stay as they are; a second time replaces."""
    before = {path.name: path.read_bytes() for path in full_run.iterdir() if path.is_file()}
    cards = []
    for _ in range(2):
        assert test.main(["--run_dir", str(full_run), "--evaluate"]) == 0
        cards.append((full_run / "README.md").read_text())
    after = {path.name: path.read_bytes() for path in full_run.iterdir() if path.is_file()}
    pictures = {"calibration_test.png", "confusion_test.png"}
    assert set(after) - set(before) <= {*pictures, "test.json"}
    kept = set(before) - {*pictures, "test.json", "README.md"}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["confusion_test.png"] != after["confusion_validation.png"]
    assert cards[0] == cards[1]
    for split in ("validation", "test"):
        section = cards[0].split(f"\n## {split.title()}\n")[1].split("\n## ")[0]
        scores = json.loads(after[f"{split}.json"])
        assert f"| accuracy | {scores['accuracy']:.4f} |" in section
        error = scores["calibration"]["expected_calibration_error"]
        assert f"Expected calibration error: {error:.4f}." in section
        assert f"](confusion_{split}.png)" in section
        assert f"](calibration_{split}.png)" in section
        assert "| text | true | predicted | probability |" in section


def test_evaluation_is_written_down(full_run, capsys):
    assert test.main(["--run_dir", str(full_run), "--evaluate"]) == 0
    scores = json.loads((full_run / "test.json").read_text())
    low, high = scores["intervals"]["accuracy"]
    always = scores["baseline"]["accuracy"]
    line = f"accuracy {scores['accuracy']:.4f}  ({low:.4f} to {high:.4f})  baseline {always:.4f}"
    assert line in capsys.readouterr().out
    assert 0 <= low <= scores["accuracy"] <= high <= 1
    assert always == pytest.approx(1 / 6, abs=0.02)


def test_interactive_labels_each_line_until_an_empty_one(full_run, monkeypatch, capsys):
    lines = iter(["i feel fine", ""])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    assert test.main(["--run_dir", str(full_run), "--interactive"]) == 0
    assert capsys.readouterr().out.count("i feel fine") == 1


@pytest.mark.slow
def test_options_file_repeats_the_run(home, full_run):
    config = ["--config", str(full_run / "options.yaml"), "--output_dir", str(home / "again")]
    assert train.main(config) == 0
    first, second = (
        yaml.safe_load((path / "options.yaml").read_text()) for path in (full_run, home / "again")
    )
    assert first == second
    assert metrics(full_run) == metrics(home / "again")


def test_an_existing_run_is_kept_unless_told(home, full_run, capsys):
    before = snapshot(full_run)
    flags = ["--dataset_dir", home / "data", "--pretrained", home / "base"]
    line = refused(train.main, capsys, *flags, "--output_dir", full_run)
    assert "use --resume, --overwrite or another --output_dir" in line
    line = refused(train.main, capsys, *flags, "--output_dir", full_run, "--resume")
    assert "was started with --epochs 2, not 4" in line
    (home / "mine").mkdir()
    (home / "mine" / "thesis.txt").write_text("x")
    line = refused(train.main, capsys, *flags, "--output_dir", home / "mine", "--overwrite")
    assert "is not a run" in line
    assert names(home / "mine") == {"thesis.txt"}
    assert snapshot(full_run) == before


@pytest.mark.slow
def test_overwrite_replaces_a_run(home):
    assert run(home, "twice") == 0
    before = snapshot(home / "twice")
    (home / "twice" / "notes.txt").write_text("mine")
    assert run(home, "twice", "--overwrite", "--epochs", 1) == 2
    (home / "twice" / "notes.txt").unlink()
    assert snapshot(home / "twice") == before
    assert run(home, "twice", "--overwrite", "--epochs", 1) == 0
    assert names(home / "twice") == RUN_FILES | {"model"}
    assert not before.items() & snapshot(home / "twice").items()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pretrained", "124M"], "cannot get model.safetensors"),
        (["--pretrained", "no/such-model"], "cannot get model.safetensors of 'no/such-model'"),
        (["--pretrained", "mini"], "no published weights of size mini"),
        (["--pretrained", "none", "--model_size", "77B"], "unknown model size '77B'"),
        (["--lora_rank", "4", "--lora_targets", "c_attn"], "gpt2 has no LoRA target 'c_attn'"),
        (["--lora_rank", "400"], "--lora_rank 400 is above the size"),
        (["--batch_size", "0"], "--batch_size must be at least 1"),
        (["--precision", "float8"], "--precision"),
        (["--dataset_dir", "nowhere"], "no such directory: nowhere"),
    ],
)
def test_bad_flags_are_one_line_and_leave_nothing(home, capsys, flags, message):
    everything = {
        "--dataset_dir": home / "data",
        "--pretrained": home / "base",
        "--output_dir": home / "refused",
    }
    for index in range(0, len(flags), 2):
        everything[flags[index]] = flags[index + 1]
    pairs = [part for pair in everything.items() for part in pair]
    assert message in refused(train.main, capsys, *pairs)
    assert not (home / "refused").exists()


def test_a_changed_record_file_is_refused(home, tmp_path, capsys):
    data = shutil.copytree(home / "data", tmp_path / "data")
    with (data / "train.tfrecord.gz").open("r+b") as file:
        file.seek(200)
        file.write(b"\0")
    line = refused(train.main, capsys, "--dataset_dir", data, "--pretrained", home / "base")
    assert "train.tfrecord.gz was changed or damaged" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "nothing to do"),
        (["--text", " "], "--text is empty"),
        (["--input", "missing.jsonl"], "missing.jsonl"),
        (["--evaluate", "--dataset_dir", "nowhere"], "no such directory: nowhere"),
        (["--run_dir", "nowhere", "--text", "x"], "nowhere"),
    ],
)
def test_wrong_use_of_the_test_script_is_one_line(full_run, capsys, flags, message):
    run_dir = [] if "--run_dir" in flags else ["--run_dir", full_run]
    assert message in refused(test.main, capsys, *run_dir, *flags)


def test_rows_that_cannot_be_labelled_are_named(full_run, tmp_path, capsys):
    source, output = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    for rows, message in (
        ('{"text": "a"}\n{"body": "b"}\n', "row 2, has no column 'text'; its columns: body"),
        ('{"text": "a"}\n{"text": " "}\n', "row 2: text holds no text"),
    ):
        source.write_text(rows)
        flags = ["--run_dir", full_run, "--input", source, "--output", output]
        assert message in refused(test.main, capsys, *flags, "--strict")
        assert not output.exists()
    line = refused(test.main, capsys, "--run_dir", full_run, "--input", source, "--output", source)
    assert "would overwrite --input" in line


@pytest.mark.slow
def test_a_terminated_run_says_how_to_go_on_and_does(home, full_run):
    """SIGTERM in a process of its own: exit code 143, one line, and the run as if left alone."""
    flags = ["--dataset_dir", home / "data", "--pretrained", home / "base", "--epochs", 2]
    flags += ["--learning_rate", "1e-2", "--output_dir", home / "ended", "--checkpoint_steps", 1]
    command = [sys.executable, "classification_tuning/train.py", *map(str, flags)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(SRC)}
    checkpoints = home / "ended" / "checkpoints"
    with subprocess.Popen(command, cwd=SRC, env=environment, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not list(checkpoints.glob("step-*")):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.stderr is not None
        error = process.stderr.read().decode()
    assert process.returncode == 143
    newest = sorted(checkpoints.glob("step-*"))[-1]
    line = f"terminated: {newest} is saved; the same flags and --resume go on from it"
    if tf.__version__.startswith("2.20."):  # it says that XLA compiled, whatever the log level
        error = error.splitlines()[-1] + "\n"
    assert error == line + "\n"  # a user sees our line, not TensorFlow's
    assert not (home / "ended" / "model").exists()
    assert train.main([*map(str, flags), "--resume"]) == 0
    weights = [(path / "model" / "model.safetensors") for path in (full_run, home / "ended")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert metrics(full_run) == metrics(home / "ended")
