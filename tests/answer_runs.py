"""A classifier's run made without training, and how test.py is run on files of rows."""

import json
import shutil

from samples import randomize

import classification_tuning.prep_dataset
import classification_tuning.test
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.runs import weights_record

LABELS = ["anger", "fear", "joy", "love", "sadness", "surprise"]
TEXTS = [f"i feel {'very ' * (number * 7 % 5)}fine number {number}" for number in range(10)]
CONFIG = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=128)
OVERFLOWS = 3e38
"""A number that is finite, so that it may be loaded, and whose square is not."""
BAD_TOKEN = 37
"""The token of "F", which none of TEXTS holds."""


def run_of(directory, model, data):
    """A run as training leaves it, without the training."""
    directory.mkdir()
    model.save_pretrained(directory / "model")
    weights_record.record(directory, "model")
    shutil.copy(data / "metadata.json", directory)
    (directory / "options.yaml").write_text(f"dataset_dir: {data}\n")
    return directory


def classifier_run(home):
    """A run on the data it makes beside itself; its model's numbers overflow at BAD_TOKEN alone."""
    flags = ["--dataset", "sample", "--limit", "12", "--output_dir", str(home / "data")]
    assert classification_tuning.prep_dataset.main(flags) == 0
    model = randomize(GPT2Classifier(CONFIG, label_names=LABELS).built_now())
    table = model.transformer.tokens.embeddings.numpy()
    table[BAD_TOKEN] = OVERFLOWS
    model.transformer.tokens.embeddings.assign(table)
    return run_of(home / "run", model, home / "data")


def rows_file(path, rows):
    """Rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ten_rows(directory):
    """TEXTS, one a row."""
    return rows_file(directory / "rows.jsonl", [{"id": i, "text": t} for i, t in enumerate(TEXTS)])


def lines_of(path):
    """The rows of a file of answers."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def flags_of(run_dir, source, output, *more):
    """The flags with which test.py answers a file, in batches of two."""
    paths = ["--run_dir", run_dir, "--input", source, "--output", output, "--batch_size", 2]
    return [str(flag) for flag in (*paths, *more)]


def label(*arguments):
    """Labels a file; returns the exit code."""
    return classification_tuning.test.main(flags_of(*arguments))


def no_model(*arguments, **keywords):
    """In the place of a function that makes a model: what calls it has not checked before."""
    raise AssertionError("the model was made")
