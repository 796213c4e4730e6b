"""Preparation of the files that people have: what is said of them, and which columns are taken."""

import csv
import gzip
import json
from pathlib import Path

import pytest
from places import SHARED
from script_runs import read, refused

from classification_tuning import prep_dataset as classification
from entailment_tuning import prep_dataset as entailment
from gpt2_tuning import cli
from instruction_tuning import prep_dataset as instruction
from text_tuning import prep_dataset as text

CASES = SHARED / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"no files in {CASES}")


def prepared(script, capsys, tmp_path, *flags):
    """What metadata.json has, and the notes that were printed; the data set is in `set`."""
    capsys.readouterr()
    given = [*map(str, flags), "--output_dir", str(tmp_path / "set"), "--seq_len", "128"]
    assert script.main(given) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out.splitlines()
    return read(tmp_path / "set"), [line for line in shown if line.startswith("note: ")]


def content(metadata):
    """The sum of what the rows hold."""
    return metadata["dataset"]["fingerprint"]


def test_plain_files_have_nothing_said_of_them_and_others_give_the_same_data(tmp_path, capsys):
    plain = tmp_path / "plain.csv"
    source = (CASES / "excel_semicolon/rows.csv").read_text(encoding="utf-8-sig")
    plain.write_text(source.replace(";", ","))
    expected, notes = prepared(classification, capsys, tmp_path, "--train_file", plain)
    assert notes == []
    for name, how in {
        "excel_semicolon/rows.csv": "semicolon-separated",
        "utf16/rows.csv": "UTF-16, comma-separated",
        "utf16/rows.tsv": "UTF-16, tab-separated",
        "compressed/rows.csv.gz": "gzip, comma-separated",
        "json_layouts/data_key.json": "what lies under 'data'",
        "json_layouts/orient_split.json": "pandas' split form",
    }.items():
        found, notes = prepared(classification, capsys, tmp_path, "--train_file", CASES / name)
        assert notes == [f"note: {Path(name).name}: read as {how}"]
        assert content(found) == content(expected), name


def test_a_refused_file_has_one_line_said_of_it(tmp_path, capsys):
    rows = tmp_path / "rows.csv"
    rows.write_bytes("text;label\na;x\nb;\n".encode("utf-16"))
    flags = ["--train_file", rows, "--output_dir", tmp_path / "set"]
    assert "row 2 of train has no label" in refused(
        classification.main, capsys, *flags, silent=True
    )
    assert not (tmp_path / "set").exists()


EXAMPLES = {"capitals": 54, "prompt_completion": 54, "null_input": 54, "alpaca_eos": 60}


@pytest.mark.parametrize("name", EXAMPLES)
def test_usual_names_of_an_instructions_columns_are_found(name, tmp_path, capsys):
    (path,) = (CASES / "instruction_columns").glob(f"{name}.*")
    found, notes = prepared(instruction, capsys, tmp_path, "--train_file", path)
    # All but the rows whose response is empty.
    assert sum(split["examples"] for split in found["splits"].values()) == EXAMPLES[name]
    taken = {
        "capitals": "'Instruction' for --instruction_column, 'Input' for --context_column, "
        "'Output' for --response_column",
        "prompt_completion": "'prompt' for --instruction_column, 'completion' for "
        "--response_column",
    }.get(name)
    said = [line for line in notes if "columns taken" in line]
    assert said == ([f"note: columns taken by their names: {taken}"] if taken else [])


def test_numbers_are_refused_by_row_or_taken_with_coerce(tmp_path, capsys):
    path = CASES / "instruction_columns/number_output.jsonl"
    flags = ["--train_file", path, "--output_dir", tmp_path / "set"]
    message = refused(instruction.main, capsys, *flags, silent=True)
    assert "row 1: column 'output' holds a number (0), not text" in message
    found, _ = prepared(instruction, capsys, tmp_path, "--train_file", path, "--coerce")
    assert sum(split["examples"] for split in found["splits"].values()) == 60


def test_a_text_that_is_nan_is_dropped_and_counted(tmp_path, capsys):
    path = CASES / "json_nan/rows.jsonl"
    found, _ = prepared(classification, capsys, tmp_path, "--train_file", path)
    assert sum(split["dropped"] for split in found["splits"].values()) == 1


@pytest.mark.parametrize(
    ("header", "note"),
    [
        (("sentence1", "sentence2", "label"), None),
        (("premise", "hypothesis", "label"), None),
        (
            ("Question", "Sentence", "LABEL"),
            "'Question' for --premise_column, 'Sentence' for --hypothesis_column, 'LABEL' for "
            "--label_column",
        ),
        (("question1", "question2", "is_duplicate"), "'is_duplicate' for --label_column"),
        (("#1 String", "#2 String", "Quality"), "'Quality' for --label_column"),
    ],
)
def test_the_columns_of_glues_own_files_are_found(header, note, tmp_path, capsys):
    path = tmp_path / "train.tsv"
    rows = [(f"a {i}", f"b {i}", str(i % 2)) for i in range(20)]
    path.write_text("".join("\t".join(row) + "\n" for row in [header, *rows]))
    found, notes = prepared(entailment, capsys, tmp_path, "--train_file", path)
    assert found["label_names"] == ["0", "1"]
    assert sum(split["examples"] for split in found["splits"].values()) == 20
    assert notes == ([f"note: columns taken by their names: {note}"] if note else [])


def test_a_folder_and_a_pattern_of_texts_are_their_files(tmp_path, capsys):
    folder = tmp_path / "books"
    folder.mkdir()
    parts = [f"The tide of book {i} comes in. " * 40 for i in range(3)]
    for number, part in enumerate(parts):
        (folder / f"{number}.txt").write_text(part)
    (folder / "2.txt").unlink()
    (folder / "2.txt.gz").write_bytes(gzip.compress(parts[2].encode()))
    (folder / "notes.md").write_text("no book")
    by_name = [folder / name for name in ("0.txt", "1.txt", "2.txt.gz")]
    expected, _ = prepared(text, capsys, tmp_path, "--train_file", *by_name)
    for given in (folder, folder / "*.txt*"):
        found, notes = prepared(text, capsys, tmp_path, "--train_file", given)
        assert content(found) == content(expected)
        assert found["dataset"]["name"] == given.name
        assert notes == ["note: 2.txt.gz: read as gzip"]
    documents = tmp_path / "rows.jsonl"
    documents.write_text("".join(json.dumps({"Body": part}) + "\n" for part in parts))
    found, notes = prepared(text, capsys, tmp_path, "--train_file", documents)
    assert content(found) == content(expected)
    assert notes == ["note: columns taken by their names: 'Body' for --text_column"]


def test_rows_by_a_pattern_are_those_of_its_files(tmp_path, capsys):
    with (CASES / "label_blank/rows.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    for number in range(3):
        with (tmp_path / f"part-{number}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows[number * 20 : (number + 1) * 20]])
    expected, _ = prepared(
        classification, capsys, tmp_path, "--train_file", CASES / "label_blank/rows.csv"
    )
    found, _ = prepared(classification, capsys, tmp_path, "--train_file", tmp_path / "part-*.csv")
    assert content(found) == content(expected)
    assert found["dataset"]["name"] == "part-*.csv"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--delimiter", "ab"], "--delimiter must be one character"),
        (["--delimiter", '"'], "--delimiter must be one character"),
        (["--encoding", "klingon"], "--encoding must be an encoding that Python knows, not kling"),
        (["--encoding", "base64"], "--encoding must be an encoding that Python knows, not base64"),
        (["--json_field", "data"], "--json_field needs --train_file with a .json file"),
        (["--coerce"], "--coerce needs rows of which some may hold numbers"),
        (["--train_file", "rows.jsonl", "--delimiter", ";"], "--delimiter needs --train_file with"),
        (["--train_file", "rows.parquet", "--encoding", "cp1252"], "--encoding needs --train_file"),
    ],
)
def test_flags_of_reading_are_in_range_and_have_an_effect(flags, message, capsys):
    given = flags if "--train_file" in flags else ["--train_file", "rows.csv.gz", *flags]
    with pytest.raises(cli.UserError, match=message):
        cli.checked_options(classification.Options, given)
