"""What comes out of each of the small files of the kinds that people bring."""

from typing import NamedTuple

import pytest
from places import SHARED

from gpt2_tuning.data.labels import read_labels
from gpt2_tuning.data.reading import BY_ITSELF, Reading
from gpt2_tuning.data.row_files import column_names, rows_of_file
from gpt2_tuning.errors import UserError

CASES = SHARED / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"no files in {CASES}")
OTHERS = {"README.md", "chat/messages.jsonl", "text_files/crlf.txt", "text_files/eot.txt"}
"""What holds no rows with columns."""
FIRST, LAST = "visit 0: fresh bread and kind waiter", "visit 59: stale bread and dull stage"
BAD_GOOD = ["bad", "good"]


class Read(NamedTuple):
    """What a file is to be read as."""

    how: list[str]
    names: list[str]
    rows: int = 60
    first: str = FIRST
    last: str | None = LAST


READ = {
    "compressed/rows.csv.gz": Read(["gzip", "comma-separated"], BAD_GOOD),
    "compressed/rows.jsonl.gz": Read(["gzip"], BAD_GOOD),
    "compressed/rows.ndjson": Read([], BAD_GOOD),
    "excel_semicolon/rows.csv": Read(["semicolon-separated"], BAD_GOOD),
    "imbalance/rows.jsonl": Read([], ["fine", "lost"], 400, "order 0 was lost at sea", None),
    "json_layouts/data_key.json": Read(["what lies under 'data'"], BAD_GOOD),
    "json_layouts/data_key_pretty.json": Read(["what lies under 'data'"], BAD_GOOD),
    "json_layouts/dict_of_lists.json": Read(["a list for each column"], BAD_GOOD),
    "json_layouts/orient_columns.json": Read(["pandas' form by columns"], BAD_GOOD),
    "json_layouts/orient_records.json": Read([], BAD_GOOD),
    "json_layouts/orient_split.json": Read(["pandas' split form"], BAD_GOOD),
    "json_layouts/pretty_concat.json": Read(["objects one after another"], BAD_GOOD),
    "json_layouts/trailing_comma.jsonl": Read(["lines that end in commas"], BAD_GOOD),
    "json_nan/rows.jsonl": Read([], ["a", "b"], 40, "visit 0 kind waiter", None),
    "label_blank/rows.csv": Read([], BAD_GOOD),
    "label_bool/rows.csv": Read([], ["false", "true"]),
    "label_float/rows.csv": Read([], ["0", "1"]),
    "label_float/rows.jsonl": Read([], ["0", "1"]),
    "label_float/rows.parquet": Read([], ["0", "1"]),
    "labels_order/three.jsonl": Read(
        [], ["maybe", "no", "yes"], 90, "item 0 says no clearly", None
    ),
    "labels_order/two.jsonl": Read([], ["maybe", "no"], 60, "item 0 says no clearly", None),
    "multi_label/all_label_unique.csv": Read([], [str(number) for number in range(60)]),
    "polars/cat.parquet": Read([], BAD_GOOD, 60, "visit 0: rude waiter", None),
    "polars/enum.parquet": Read([], BAD_GOOD, 60, "visit 0: rude waiter", None),
    "polars/rows.parquet": Read([], BAD_GOOD, 60, "visit 0: rude waiter", None),
    "utf16/rows.csv": Read(["UTF-16", "comma-separated"], BAD_GOOD),
    "utf16/rows.tsv": Read(["UTF-16", "tab-separated"], BAD_GOOD),
}
REFUSED = {
    "compressed/rows.xlsx": "begins as an Excel workbook does, but is none, or damaged: save it as",
    "compressed/xlsx_named.csv": "begins as an Excel workbook does, but is none, or damaged: save",
    "cp1252/rows.csv": (
        r"is not UTF-8 text \(byte 112\) but cp1252, it seems: save it as UTF-8, or prepare it with"
        " --encoding cp1252$"
    ),
    "dup_columns/rows.csv": "has 2 columns called 'text': rename or remove all but one",
    "label_bool/intstr.jsonl": "'label' holds a number in row 1 and text in row 2",
    "label_bool/mixed.jsonl": "'label' holds a number in row 1 and true or false in row 2",
    "label_nan/empty.csv": "row 6 of train has no label",
    "label_nan/nan.csv": "row 6 of train has no label .column 'label' holds 'nan'",
    "label_nan/nan.jsonl": "row 6 of train has no label",
    "label_nan/nan_num.csv": "row 6 of train has no label",
    "multi_label/lists.jsonl": "column 'label' of train holds lists: labels must be names or int",
    "multi_label/scores.csv": "column 'score' of train holds 0.5 in row 2: labels must be names or",
    "one_class/rows.csv": "all rows of train have the label 'good'",
    "text_number/rows.jsonl": (
        r"row 8: column 'text' holds a number \(42\), not text: put it in quotes, or take such as"
        " text with --coerce$"
    ),
}
TEXTS = {
    "crlf_cell/crlf.csv": ("Write two lines about stone 0.", "first line 0\nsecond line"),
    "crlf_cell/lf.csv": ("Write two lines about stone 0.", "first line 0\nsecond line"),
    "instruction_columns/alpaca_eos.jsonl": (
        "Name a red thing number 0.",
        "",
        "A red stone, number 0.<|endoftext|>",
    ),
    "instruction_columns/capitals.jsonl": (
        "Name a red thing number 0.",
        "",
        "A red stone, number 0.",
    ),
    "instruction_columns/null_input.json": (
        "Name a red thing number 0.",
        "",
        "A red stone, number 0.",
    ),
    "instruction_columns/prompt_completion.jsonl": (
        "Name a red thing number 0.",
        "A red stone, number 0.",
    ),
    "json_layouts/one_row.json": (FIRST, "good"),
    "json_nan/ins.jsonl": ("Name stone 0", "red", "ok 0"),
}
"""The first row of files without a class, all of whose columns are text."""
COERCED = {
    "instruction_columns/number_output.jsonl": ("output", [str(2 * i) for i in range(60)]),
    "label_bool/intstr.jsonl": ("label", None),
    "text_number/rows.jsonl": ("text", None),
}
"""A column of each file that is text with --coerce alone."""


def test_every_file_of_rows_is_here():
    every = {path.relative_to(CASES).as_posix() for path in CASES.rglob("*") if path.is_file()}
    assert {*READ, *REFUSED, *TEXTS, *COERCED} == every - OTHERS


def read(name, reading=BY_ITSELF):
    """The rows of a file, its columns of text and what it was read as."""
    remarks: list[str] = []
    columns = column_names(CASES / name, reading)
    label = next((column for column in ("label", "score") if column in columns), None)
    texts = [column for column in columns if column != label]
    return rows_of_file(CASES / name, texts, label, reading, remarks), label, remarks


def classes(name):
    """The names of a file's classes."""
    rows, label, _ = read(name)
    return read_labels({"train": rows}, label).names


@pytest.mark.parametrize("name", READ)
def test_a_case_that_is_read_gives_its_rows_and_classes(name):
    expected = READ[name]
    rows, label, remarks = read(name)
    assert remarks == expected.how
    assert len(rows) == expected.rows
    assert rows["text"][0] == expected.first
    assert expected.last in (None, rows["text"][-1])
    assert read_labels({"train": rows}, label).names == expected.names


@pytest.mark.parametrize("name", REFUSED)
def test_a_case_that_cannot_be_used_is_one_line_that_says_where(name):
    with pytest.raises(UserError, match=REFUSED[name]) as refused:
        classes(name)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", TEXTS)
def test_a_case_without_classes_gives_its_texts(name):
    columns = column_names(CASES / name)
    rows = rows_of_file(CASES / name, columns, None, BY_ITSELF, [])
    assert tuple(rows[column][0] for column in columns) == TEXTS[name]


@pytest.mark.parametrize("name", COERCED)
def test_numbers_are_texts_as_json_writes_them_with_coerce(name):
    column, expected = COERCED[name]
    rows, _, _ = read(name, Reading(coerce=True))
    assert rows.kind(column) == "string"
    assert expected is None or rows[column] == expected
    if column == "label":
        assert read_labels({"train": rows}, column).names == ["0", "1"]
    if column == "text":
        assert rows[column][7] == "42"


def test_a_missing_text_that_json_calls_nan_is_none():
    assert read("json_nan/rows.jsonl")[0]["text"][9] is None
    rows = rows_of_file(CASES / "json_nan/ins.jsonl", ["input"], None, BY_ITSELF, [])
    assert rows["input"][:2] == ["red", None]


def test_curly_quotes_arrive_by_the_encoding_that_is_named():
    rows, _, remarks = read("cp1252/rows.csv", Reading(encoding="cp1252"))
    assert rows["text"][2] == "visit 2: the café was “fine” \u2013 kind waiter"
    assert remarks == ["CP1252", "comma-separated"]


def test_cells_with_line_ends_of_windows_are_those_with_unix_ones():
    crlf, lf = (
        rows_of_file(CASES / "crlf_cell" / name, ["output"], None, BY_ITSELF, [])["output"]
        for name in ("crlf.csv", "lf.csv")
    )
    assert crlf == lf
