"""Pairs of texts prepared from GLUE (as the Hub gives it), from files and from the sample."""

import json

import pytest
from script_runs import names, refused

from entailment_tuning import prep_dataset
from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.data.tfrecords import read_records
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.tasks.entailment.prepare import SAMPLE_FILE

FILES = {"metadata.json", "test.tfrecord.gz", "train.tfrecord.gz", "validation.tfrecord.gz"}
RTE_NAMES = ["entailment", "not_entailment"]


def prepare(output_dir, *flags):
    return prep_dataset.main(["--output_dir", str(output_dir), *map(str, flags)])


def splits_of(directory):
    return json.loads((directory / "metadata.json").read_text(encoding="utf-8"))["splits"]


def decoded(directory, split):
    """Each row as its text, the separator shown, with the name of its label."""
    metadata = read_metadata(directory, "entailment")
    assert metadata.label_names
    records = read_records(directory, metadata, split)
    decode = GPT2Tokenizer().decode
    return [
        (decode(records.row(i).tolist()), metadata.label_names[records.columns["label"][i]])
        for i in range(len(records))
    ]


def glue_split(columns, names, labels, prefix):
    """A split as the Hub gives it: two texts, a ClassLabel and an index."""
    datasets = pytest.importorskip("datasets")
    first, second = columns
    features = datasets.Features(
        {
            first: datasets.Value("string"),
            second: datasets.Value("string"),
            "label": datasets.ClassLabel(names=names),
            "idx": datasets.Value("int32"),
        }
    )
    count = len(labels)
    return datasets.Dataset.from_dict(
        {
            first: [f"{prefix} premise {row}" for row in range(count)],
            second: [f"{prefix} hypothesis {row}" for row in range(count)],
            "label": labels,
            "idx": list(range(count)),
        },
        features=features,
    )


@pytest.fixture
def hub(monkeypatch, datasets):
    """Puts a GLUE task on a stubbed Hub; returns the calls that are made to it."""
    calls = []

    def put(columns, names, suffix=""):
        balanced = [row % len(names) for row in range(40)]
        found = datasets.DatasetDict(
            {
                "train": glue_split(columns, names, balanced, "train"),
                f"validation{suffix}": glue_split(columns, names, balanced[:12], "official"),
                f"test{suffix}": glue_split(columns, names, [-1] * 9, "secret"),
            }
        )
        if suffix:
            for split in ("validation", "test"):
                found[f"{split}_mismatched"] = glue_split(columns, names, [0], "mismatched")

        def load_dataset(name, config=None):
            calls.append((name, config))
            return found

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return calls

    return put


def test_official_validation_tests_where_glue_hides_the_test_labels(hub, tmp_path, capsys):
    calls = hub(("sentence1", "sentence2"), RTE_NAMES)
    assert prepare(tmp_path / "set") == 0
    assert calls == [("nyu-mll/glue", "rte")]
    assert names(tmp_path / "set") == FILES
    metadata = read_metadata(tmp_path / "set", "entailment")
    assert (metadata.task, metadata.seq_len) == ("entailment", 384)
    assert metadata.dataset["name"] == "nyu-mll/glue/rte"
    assert metadata.label_names == RTE_NAMES
    origins = {name: split["origin"] for name, split in metadata.splits.items()}
    assert origins == {
        "train": "given",
        "validation": "cut from train",
        "test": "given as validation (labels of test are hidden)",
    }
    assert "share" not in metadata.splits["test"]
    assert [split["examples"] for split in metadata.splits.values()] == [36, 4, 12]
    assert metadata.splits["validation"]["labels"] == {"entailment": 2, "not_entailment": 2}
    assert decoded(tmp_path / "set", "test")[:2] == [
        ("official premise 0<|endoftext|>official hypothesis 0", "entailment"),
        ("official premise 1<|endoftext|>official hypothesis 1", "not_entailment"),
    ]
    assert all(text.startswith("train ") for text, _ in decoded(tmp_path / "set", "validation"))
    assert "labels of test" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("config", "columns", "classes", "suffix"),
    [
        ("mrpc", ("sentence1", "sentence2"), ["not_equivalent", "equivalent"], ""),
        ("qnli", ("question", "sentence"), ["entailment", "not_entailment"], ""),
        ("qqp", ("question1", "question2"), ["not_duplicate", "duplicate"], ""),
        ("wnli", ("sentence1", "sentence2"), ["not_entailment", "entailment"], ""),
        ("mnli", ("premise", "hypothesis"), ["entailment", "neutral", "contradiction"], "_matched"),
    ],
)
def test_every_pair_task_of_glue_is_found_by_its_config_alone(
    hub, tmp_path, config, columns, classes, suffix
):
    calls = hub(columns, classes, suffix)
    assert prepare(tmp_path / "set", "--dataset_config", config) == 0
    assert calls == [("nyu-mll/glue", config)]
    metadata = read_metadata(tmp_path / "set", "entailment")
    assert metadata.label_names == classes  # in the data's order
    splits = metadata.splits
    assert splits["test"]["origin"] == f"given as validation{suffix} (labels of test are hidden)"
    assert (splits["train"]["examples"], splits["test"]["examples"]) == (36, 12)
    first = decoded(tmp_path / "set", "test")[1]
    assert first == ("official premise 1<|endoftext|>official hypothesis 1", classes[1])


def test_columns_given_by_flag_go_before_glues_own(hub, tmp_path):
    hub(("sentence1", "sentence2"), RTE_NAMES)
    swapped = ["--premise_column", "sentence2", "--hypothesis_column", "sentence1"]
    assert prepare(tmp_path / "set", *swapped) == 0
    text, _ = decoded(tmp_path / "set", "test")[0]
    assert text == "official hypothesis 0<|endoftext|>official premise 0"


def test_sample_is_prepared_whole(tmp_path):
    assert prepare(tmp_path / "set", "--dataset", "sample") == 0
    splits = splits_of(tmp_path / "set")
    rows = SAMPLE_FILE.read_text("utf-8").splitlines()
    assert sum(split["examples"] for split in splits.values()) == len(rows) == 400
    assert all(split["dropped"] == split["truncated"] == 0 for split in splits.values())
    premises = [
        {text.split("<|endoftext|>")[0] for text, _ in decoded(tmp_path / "set", split)}
        for split in splits
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not premises[one] & premises[other]


def test_preparing_twice_is_byte_identical(tmp_path):
    for name in ("one", "two"):
        assert prepare(tmp_path / name, "--dataset", "sample", "--limit", 30) == 0
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_empty_texts_are_dropped_long_pairs_trimmed_and_a_written_separator_is_text(tmp_path):
    rows = [
        {"premise": "one two three four", "hypothesis": "five", "label": 1},
        {"premise": "", "hypothesis": "five", "label": 0},
        {"premise": "one", "hypothesis": "  \n", "label": 0},
        {"premise": None, "hypothesis": "x", "label": 1},
        {"premise": "<|endoftext|>", "hypothesis": "a", "label": 0},
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    others = ["--validation_file", file, "--test_file", file]
    assert prepare(tmp_path / "set", "--train_file", file, *others, "--seq_len", 5) == 0
    train = splits_of(tmp_path / "set")["train"]
    assert (train["rows"], train["examples"], train["dropped"], train["truncated"]) == (5, 2, 3, 2)
    metadata = read_metadata(tmp_path / "set", "entailment")
    records = read_records(tmp_path / "set", metadata, "train")
    encode = GPT2Tokenizer().encode
    assert records.row(0).tolist() == [*encode("one two three"), 50256, *encode("five")]
    assert records.row(1).tolist() == [*encode("<|endoftext|>")[:3], 50256, *encode("a")]
    assert records.lengths.tolist() == [5, 5]


def write_tsv(path, rows, header="premise\thypothesis\tlabel"):
    path.write_text("".join(f"{line}\n" for line in [header, *rows]))
    return path


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--train_file", "{other}"], "other.tsv has no column 'hypothesis'; its columns: premise"),
        (["--train_file", "{good}", "--premise_column", "text"], "no column 'text'"),
        (["--train_file", "{good}", "--label_column", "gold"], "no column 'gold'"),
        (["--train_file", "{hidden}"], "row 2 of train has no label (column 'label' holds -1)"),
        (["--train_file", "{good}", "--test_file", "{hidden}"], "row 2 of test has no label"),
        (
            ["--train_file", "{good}", "--validation_file", "{third}"],
            "label '2' in row 1 of validation does not occur in train, which has 0, 1",
        ),
        (["--train_file", "{good}", "--seq_len", "2"], "--seq_len must be between 3 and 1024"),
        (["--train_file", "{empty}"], "no row of train holds any text"),
        (["--dataset_config", "sst2"], "sst2 is no pair task of nyu-mll/glue: choose rte, mrpc"),
        (["--dataset", "sample", "--dataset_config", "rte"], "--dataset_config belongs to"),
    ],
)
def test_bad_input_is_one_clear_line_and_writes_nothing(flags, message, tmp_path, capsys):
    rows = tmp_path / "rows"
    rows.mkdir()
    good = [f"p {i}\th {i}\t{i % 2}" for i in range(9)]
    files = {
        "good": write_tsv(rows / "good.tsv", good),
        "other": write_tsv(rows / "other.tsv", good, "premise\tsecond\tlabel"),
        "hidden": write_tsv(rows / "hidden.tsv", ["a\tb\t0", "c\td\t-1", "e\tf\t1"]),
        "third": write_tsv(rows / "third.tsv", ["a\tb\t2"]),
        "empty": write_tsv(rows / "empty.tsv", [f"{' ' * i} \th {i}\t{i % 2}" for i in range(9)]),
    }
    flags = [flag.format(**files) for flag in flags]
    line = refused(prep_dataset.main, capsys, "--output_dir", tmp_path / "set", *flags)
    assert message in line
    assert names(tmp_path) == {"rows"}


def test_hidden_labels_in_the_train_split_are_one_line(datasets, tmp_path, capsys, monkeypatch):
    columns = ("sentence1", "sentence2")
    found = datasets.DatasetDict({"train": glue_split(columns, RTE_NAMES, [0, -1, 1], "train")})
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: found)
    capsys.readouterr()
    assert prepare(tmp_path / "set") == 2
    assert "row 2 of train has no label (column 'label' holds -1)" in capsys.readouterr().err


def test_real_rte_loses_no_row_to_its_quotes(real_data, tmp_path):
    columns = ["--premise_column", "sentence1", "--hypothesis_column", "sentence2"]
    file = real_data / "rte" / "train.tsv"
    assert prepare(tmp_path / "set", "--train_file", file, *columns) == 0
    splits = splits_of(tmp_path / "set")
    assert sum(split["examples"] for split in splits.values()) == 2490
    assert all(split["dropped"] == split["truncated"] == 0 for split in splits.values())
    assert read_metadata(tmp_path / "set", "entailment").label_names == RTE_NAMES
    for split in splits.values():
        assert split["labels"]["entailment"] / split["examples"] == pytest.approx(0.5, abs=0.02)
