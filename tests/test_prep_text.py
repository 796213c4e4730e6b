import json

import pyarrow as pa
import pyarrow.parquet
import pytest
from script_runs import DATASET_FILES as FILES
from script_runs import listing, read, refused

from gpt2_tuning import paths
from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.data.tfrecords import read_records
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.families.gpt2 import END_OF_TEXT
from text_tuning import prep_dataset

SPLITS = ["train", "validation", "test"]
BOOK = "".join(f"Line {number} of the book.\n" for number in range(1000))


def prepare(output_dir, *flags):
    return prep_dataset.main(["--output_dir", str(output_dir), *map(str, flags)])


def rows_of(directory, split):
    """The tokens of each example; all but the first of each are supervised."""
    records = read_records(directory, read_metadata(directory, "text"), split)
    assert set(records.columns["prompt_length"].tolist()) == {1}
    return [records.row(row).tolist() for row in range(len(records))]


def texts(directory, split):
    """The documents that the examples of a split come from, in order."""
    ids = [token for row in rows_of(directory, split) for token in row]
    return GPT2Tokenizer().decode(ids).split("<|endoftext|>")


def documents(directory):
    """The documents of all splits, which all end."""
    found = {split: texts(directory, split) for split in SPLITS}
    assert all(split.pop() == "" for split in found.values())
    return found


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_book_is_cut_into_three_stretches_without_loss_or_overlap(tmp_path, capsys):
    path = write(tmp_path / "book.txt", BOOK)
    assert prepare(tmp_path / "set", "--train_file", path, "--seq_len", 64) == 0
    assert listing(tmp_path / "set") == FILES
    stretches = {split: texts(tmp_path / "set", split) for split in SPLITS}
    # Only the last stretch goes to the document's end.
    assert [len(found) for found in stretches.values()] == [1, 1, 2]
    assert "".join("".join(found) for found in stretches.values()) == BOOK
    sizes = [len("".join(found)) / len(BOOK) for found in stretches.values()]
    assert sizes == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    metadata = read(tmp_path / "set")
    assert (metadata["task"], metadata["template"]) == ("text", None)
    assert metadata["splits"]["train"]["origin"] == "given"
    assert metadata["splits"]["test"]["origin"] == "end of train documents"
    assert metadata["splits"]["test"]["share"] == 0.1
    assert "python text_tuning/train.py --dataset_dir" in capsys.readouterr().out


def test_every_token_but_the_first_of_each_example_is_supervised(tmp_path):
    path = write(tmp_path / "book.txt", BOOK)
    assert prepare(tmp_path / "set", "--train_file", path, "--seq_len", 50) == 0
    for split, found in read(tmp_path / "set")["splits"].items():
        lengths = [len(row) for row in rows_of(tmp_path / "set", split)]
        assert all(length == 50 for length in lengths[:-2])
        assert min(lengths) >= 2
        assert found["supervised_tokens"] == sum(lengths) - len(lengths)


def test_many_documents_are_cut_whole_and_each_ends(tmp_path):
    parts = [f"Document {i}. " + "Words follow. " * i for i in range(40)]
    parts += parts[:10]  # repeated ones stay together
    path = write(tmp_path / "all.txt", "\n%%\n".join(parts) + "\n%%\n")
    flags = ["--train_file", path, "--separator", "%%", "--seq_len", 16]
    assert prepare(tmp_path / "set", *flags) == 0
    found = documents(tmp_path / "set")
    assert sorted(text for split in found.values() for text in split) == sorted(parts)
    assert not set(found["train"]) & (set(found["validation"]) | set(found["test"]))
    assert read(tmp_path / "set")["splits"]["test"]["origin"] == "cut from train"
    for split in SPLITS:
        for row in rows_of(tmp_path / "set", split):
            assert END_OF_TEXT not in row[:-1]  # no example goes over a document's end


def test_several_files_and_given_splits_are_taken_as_they_are(tmp_path):
    files = [write(tmp_path / f"{name}.txt", f"Text of {name}.") for name in "abcd"]
    flags = ["--train_file", *files[:2], "--validation_file", files[2], "--test_file", files[3]]
    assert prepare(tmp_path / "set", *flags) == 0
    assert documents(tmp_path / "set") == {
        "train": ["Text of a.", "Text of b."],
        "validation": ["Text of c."],
        "test": ["Text of d."],
    }
    assert read(tmp_path / "set")["dataset"]["name"] == "a.txt, b.txt, c.txt, d.txt"


def test_each_row_of_a_column_is_a_document(tmp_path):
    rows = [{"body": f"Text {i}", "id": i} for i in range(30)]
    as_lines = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    as_parquet = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), as_parquet)
    for path in (as_lines, as_parquet):
        flags = ["--train_file", path, "--text_column", "body"]
        assert prepare(tmp_path / path.suffix[1:], *flags) == 0
        found = documents(tmp_path / path.suffix[1:])
        assert [len(found[split]) for split in SPLITS] == [24, 3, 3]
        assert {text for split in SPLITS for text in found[split]} == {row["body"] for row in rows}


def test_hub_data_and_the_sample_are_prepared_too(tmp_path, monkeypatch, datasets):
    rows = datasets.Dataset.from_dict({"body": [f"Text {i}" for i in range(50)], "n": [0] * 50})
    monkeypatch.setattr(
        datasets, "load_dataset", lambda name, config: datasets.DatasetDict({"train": rows})
    )
    flags = ["--dataset", "a/b", "--text_column", "body", "--limit", 4]
    assert prepare(tmp_path / "hub", *flags) == 0
    assert [len(found) for found in documents(tmp_path / "hub").values()] == [4, 4, 4]
    assert prepare(tmp_path / "sample", "--dataset", "sample") == 0
    assert [len(found) for found in documents(tmp_path / "sample").values()] == [480, 60, 60]


def test_a_seed_by_which_nothing_is_drawn_is_said(tmp_path, monkeypatch, capsys):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict({"text": [f"Text {i}" for i in range(50)]})
    found = datasets.DatasetDict(dict.fromkeys(SPLITS, rows))
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config: found)
    assert prepare(tmp_path / "all", "--dataset", "a/b", "--seed", 1) == 0
    assert "note: --seed has no effect" in capsys.readouterr().out
    assert prepare(tmp_path / "limited", "--dataset", "a/b", "--seed", 1, "--limit", 4) == 0
    del found["test"]
    assert prepare(tmp_path / "cut", "--dataset", "a/b", "--seed", 1) == 0
    assert "--seed has no effect" not in capsys.readouterr().out


def test_default_output_dir_is_the_tasks_and_show_prints_examples(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(paths, "repository_top", lambda: tmp_path)
    flags = ["--train_file", str(write(tmp_path / "book.txt", BOOK)), "--show", "1"]
    assert prep_dataset.main(flags) == 0
    assert listing(tmp_path / "tfrecords" / "text") == FILES
    out = capsys.readouterr().out
    assert "1 prompt + 1023 supervised + 0 padding tokens" in out
    assert "--- prompt ---\nLine\n--- supervised ---\n 0 of the book.\nLine 1 of" in out


def test_end_of_text_written_in_letters_is_counted_until_it_separates(cases, tmp_path, capsys):
    flags = ["--train_file", cases / "text_files" / "eot.txt"]
    assert prepare(tmp_path / "letters", *flags) == 0
    splits = read(tmp_path / "letters")["splits"]
    assert [split["end_of_text_written"] for split in splits.values()] == [1, 1, 1]
    out = capsys.readouterr().out
    assert "texts with" in out
    assert "give --separator '<|endoftext|>'; elsewhere remove it" in out
    assert prepare(tmp_path / "set", *flags, "--separator", "<|endoftext|>") == 0
    splits = read(tmp_path / "set")["splits"]
    assert [split["end_of_text_written"] for split in splits.values()] == [0, 0, 0]
    assert "<|endoftext|>" not in capsys.readouterr().out


@pytest.mark.parametrize("separator", ["\\n%%\\n", "\r\n%%\r\n"])
def test_line_ends_of_windows_are_read_as_unix_ones_and_a_lone_return_stays(tmp_path, separator):
    text = "".join(f"Part {number}\rof it.\n%%\n" for number in range(40))
    for name, written in {"unix": text, "windows": text.replace("\n", "\r\n")}.items():
        path = tmp_path / f"{name}.txt"
        path.write_bytes(written.encode())
        assert prepare(tmp_path / name, "--train_file", path, "--separator", separator) == 0
    assert documents(tmp_path / "unix") == documents(tmp_path / "windows")
    assert "Part 0\rof it." in {
        text for split in documents(tmp_path / "unix").values() for text in split
    }
    prints = {read(tmp_path / name)["dataset"]["fingerprint"] for name in ("unix", "windows")}
    assert len(prints) == 1


def test_book_with_line_ends_of_windows_has_no_return_in_its_tokens(cases, tmp_path):
    path = cases / "text_files" / "crlf.txt"
    assert b"\r\n" in path.read_bytes()
    assert prepare(tmp_path / "set", "--train_file", path) == 0
    whole = "".join("".join(texts(tmp_path / "set", split)) for split in SPLITS)
    assert whole == path.read_bytes().decode().replace("\r\n", "\n")


def test_preparing_twice_is_byte_identical(tmp_path):
    path = write(tmp_path / "book.txt", BOOK)
    for name in ("one", "two"):
        assert prepare(tmp_path / name, "--train_file", path) == 0
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give text to prepare: --train_file FILE.txt, or --dataset NAME"),
        (["--train_file", "{good}", "--dataset", "sample"], "exclude each other"),
        (["--test_file", "{good}"], "give text to prepare"),
        (["--dataset", "sample", "--test_file", "{good}"], "--test_file needs --train_file"),
        (["--train_file", "{good}", "--seq_len", "2"], "--seq_len must be between 3 and 1024"),
        (["--train_file", "{good}", "--seq_len", "1025"], "--seq_len must be between 3 and 1024"),
        (["--train_file", "{good}", "--separator", ""], "--separator is empty"),
        (["--train_file", "{marks}", "--separator", "#"], "no text between the separators '#'"),
        (["--train_file", "{blank}"], "no row of train holds any text"),
        (["--train_file", "{word}"], "no row of validation is left (dropped: 1 too short)"),
        (["--train_file", "{latin}"], "latin.txt is not UTF-8 text (byte 2)"),
        (["--train_file", "{empty}"], "empty file"),
        (["--train_file", "{good}", "none.txt"], "no such file: none.txt"),
        (["--train_file", "{pdf}"], "the name must end in .txt, .json"),
        (["--train_file", "{rows}"], "rows.csv has no column 'text'; its columns: title"),
        (["--dataset", "{good}"], "--dataset takes a name on the Hub; give the file"),
    ],
)
def test_bad_input_is_one_clear_line_and_writes_nothing(flags, message, tmp_path, capsys):
    folder = tmp_path / "files"
    folder.mkdir()
    files = {
        "good": write(folder / "good.txt", BOOK),
        "blank": write(folder / "blank.txt", " \n\n "),
        "marks": write(folder / "marks.txt", " \n#\n "),
        "word": write(folder / "word.txt", "Word"),
        "latin": folder / "latin.txt",
        "empty": write(folder / "empty.txt", ""),
        "pdf": write(folder / "a.pdf", "x"),
        "rows": write(folder / "rows.csv", "title\nx\ny\nz\n"),
    }
    files["latin"].write_bytes(b"\x41\xe9t\xe9")
    flags = ["--output_dir", tmp_path / "set", *[files.get(f.strip("{}"), f) for f in flags]]
    assert message in refused(prep_dataset.main, capsys, *flags, silent=True)
    assert listing(tmp_path) == ["files"]
