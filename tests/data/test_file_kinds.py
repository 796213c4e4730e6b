"""Kinds of local files: the same rows come out of each, and what was read is said."""

import csv
import gzip
import io
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet
import pytest

from gpt2_tuning import extras
from gpt2_tuning.data import delimited_files, json_stream
from gpt2_tuning.data.given_files import found_files
from gpt2_tuning.data.reading import BY_ITSELF, Reading, notes_on
from gpt2_tuning.data.row_files import (
    column_names,
    read_all_columns,
    read_row_file,
    read_row_files,
    rows_of_file,
)
from gpt2_tuning.errors import UserError

TEXTS = ("a, b", "c;\nd", "é\t|", 'q"')
ROWS = [{"text": text, "label": "xy"[number % 2]} for number, text in enumerate(TEXTS)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
PRETTY = "\n".join(json.dumps(row, indent=2) for row in ROWS)


def delimited(delimiter):
    file = io.StringIO()
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerows([["text", "label"], *(row.values() for row in ROWS)])
    return file.getvalue()


def rows_in(path, reading=BY_ITSELF):
    remarks: list[str] = []
    rows = rows_of_file(path, ["text"], "label", reading, remarks)
    found = [{"text": t, "label": n} for t, n in zip(rows["text"], rows["label"], strict=True)]
    return found, remarks


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_cells_are_the_same_whatever_stands_between_them(delimiter, encoding, tmp_path):
    (tmp_path / "rows.csv").write_bytes(delimited(delimiter).encode(encoding))
    rows, remarks = rows_in(tmp_path / "rows.csv")
    assert rows == ROWS
    plain = delimiter == "," and encoding.startswith("utf-8")
    separated = [] if plain else [delimited_files.DELIMITERS[delimiter]]
    assert remarks == [*([] if "8" in encoding else [encoding.upper()]), *separated]


def test_a_delimiter_that_is_given_comes_before_what_the_head_has(tmp_path):
    (tmp_path / "rows.csv").write_text("text;label,more\na;b,1\n")
    assert column_names(tmp_path / "rows.csv") == ["text;label", "more"]
    assert column_names(tmp_path / "rows.csv", Reading(";")) == ["text", "label,more"]
    (tmp_path / "rows.tsv").write_text('text~label\n"a~b\n'.replace('"', ""))
    assert column_names(tmp_path / "rows.tsv", Reading("~")) == ["text", "label"]


@pytest.mark.parametrize("text", ["text\na;b\nc,d\n", "text, or so\na;b\n", "a;b\nc\nd\n"])
def test_a_mark_that_does_not_divide_every_row_is_text(text, tmp_path):
    (tmp_path / "rows.csv").write_text(text)
    header = next(csv.reader(text.splitlines()))
    assert column_names(tmp_path / "rows.csv") == header


def test_a_cell_that_goes_on_behind_the_head_changes_nothing(tmp_path, monkeypatch):
    (tmp_path / "rows.csv").write_text(delimited(";"))
    for size in range(1, 30):
        monkeypatch.setattr(delimited_files, "HEAD", size)
        assert rows_in(tmp_path / "rows.csv")[0] == ROWS, size


def test_empty_cells_at_the_ends_and_empty_rows_count_for_nothing(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label,,\na,x\nb,y,,,,\n,,,\n,,\nc,,,\n")
    rows, remarks = rows_in(tmp_path / "rows.csv")
    assert rows == [{"text": t, "label": n} for t, n in [("a", "x"), ("b", "y"), ("c", "")]]
    assert remarks == ["2 rows of empty cells left out"]
    (tmp_path / "rows.csv").write_text("text,label\na,x,,more\n")
    with pytest.raises(UserError, match=r"line 2 has 4 columns, the header has 2"):
        rows_in(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("name", "text", "remarks"),
    [
        ("rows.jsonl", LINES, []),
        ("rows.json", json.dumps(ROWS), []),
        ("rows.json", json.dumps(ROWS, indent=1), []),
        ("rows.jsonl", PRETTY, ["objects one after another"]),
        ("rows.json", PRETTY.replace("}\n", "},\n"), ["objects one after another"]),
        ("rows.jsonl", LINES.replace("}\n", "} ,\n"), ["lines that end in commas"]),
        ("rows.json", json.dumps({"n": 1, "rows": ROWS}), ["what lies under 'rows'"]),
        (
            "rows.json",
            json.dumps({str(i): row for i, row in enumerate(ROWS)}),
            ["pandas' form by index"],
        ),
        (
            "rows.json",
            json.dumps({"schema": {"fields": [{"name": "text"}]}, "data": ROWS}),
            ["what lies under 'data'"],
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_json_of_every_form_gives_the_same_rows_however_it_is_cut(
    name, text, remarks, size, tmp_path, monkeypatch
):
    monkeypatch.setattr(json_stream, "CHUNK", size)
    (tmp_path / name).write_text(text)
    assert rows_in(tmp_path / name) == (ROWS, remarks)
    assert read_all_columns(tmp_path / name) == ROWS
    assert column_names(tmp_path / name, most=2) == ["text", "label"]


def test_mistakes_in_json_are_placed_the_same_however_it_is_cut(tmp_path, monkeypatch):
    (tmp_path / "rows.json").write_text('[{"text": "a"},\n\n {"text": "b"} {"text": }]')
    for size in (1, 5, 1 << 20):
        monkeypatch.setattr(json_stream, "CHUNK", size)
        with pytest.raises(UserError, match=r"Expecting ',' delimiter at line 3, column 16$"):
            read_all_columns(tmp_path / "rows.json")


def test_rows_under_one_of_several_keys_need_its_name(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"rows": ROWS, "others": [{"x": 1}], "n": 1}))
    with pytest.raises(UserError, match=r"lists of objects under rows, others: keep one, or prep"):
        rows_in(path)
    assert rows_in(path, Reading(json_field="rows")) == (ROWS, ["what lies under 'rows'"])
    with pytest.raises(UserError, match=r"no list of objects under 'n'; keys that have: rows, oth"):
        rows_in(path, Reading(json_field="n"))
    path.write_text(LINES)
    with pytest.raises(UserError, match=r"--json_field rows: .* leave it out"):
        rows_in(path, Reading(json_field="rows"))


def test_an_object_with_the_columns_that_are_wanted_is_a_row_though_it_has_a_list(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({**ROWS[0], "spans": [{"from": 1}]}))
    assert rows_in(path) == (ROWS[:1], ["a single row"])


@pytest.mark.parametrize("text", ['{"a": ' + "9" * 5000 + "}", "[" * 100_000, '[{"a": "'])
def test_json_that_python_does_not_take_is_one_line(text, tmp_path):
    (tmp_path / "rows.json").write_text(text)
    with pytest.raises(UserError, match=r"rows.json"):
        read_all_columns(tmp_path / "rows.json")


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize(("name", "text"), [("rows.csv", delimited(",")), ("rows.jsonl", LINES)])
def test_compressed_files_are_read_as_what_they_hold(name, text, suffix, tmp_path):
    path = tmp_path / (name + suffix)
    content = text.encode()
    kind = {".gz": "gzip", ".zst": "zstd"}[suffix]
    packed = gzip.compress(content) if kind == "gzip" else pa.compress(content, kind, asbytes=True)
    path.write_bytes(packed)
    rows, remarks = rows_in(path)
    assert (rows, remarks[0]) == (ROWS, kind)
    path.write_bytes(packed[:-9])
    with pytest.raises(UserError, match=r"cannot decompress .*: it is cut short or damaged$"):
        rows_in(path)


@pytest.mark.parametrize("stored", ["view", "categorical", "categorical view"])
def test_text_in_parquet_is_text_however_it_is_stored(stored, tmp_path):
    columns = {}
    for name in ("text", "label"):
        values = pa.array([row[name] for row in ROWS])
        if "view" in stored:
            values = values.cast(pa.string_view())
        if "categorical" in stored:
            values = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3]), values)
        columns[name] = values
    try:
        pyarrow.parquet.write_table(pa.table(columns), tmp_path / "rows.parquet")
    except pa.ArrowNotImplementedError:
        pytest.skip("this Arrow does not write it")
    assert rows_in(tmp_path / "rows.parquet") == (ROWS, [])


def test_a_number_in_a_typed_column_is_named_by_its_row(tmp_path):
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pa.table({"text": [None, 1.5, float("nan")]}), path)
    with pytest.raises(UserError, match=r"row 2: column 'text' holds a number \(1.5\), not text"):
        read_row_file(path, ["text"], None)
    assert read_row_file(path, ["text"], None, Reading(coerce=True))["text"] == [None, "1.5", None]


def test_what_a_file_is_goes_by_its_first_bytes(tmp_path):
    path = tmp_path / "rows.csv"
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), path)
    assert rows_in(path) == (ROWS, ["Parquet"])
    path.write_bytes(b"\xd0\xcf\x11\xe0 and so on")
    with pytest.raises(UserError, match=r"a workbook of an old Excel \(.xls\): save it as .xlsx"):
        rows_in(path)


def test_a_workbook_is_read_by_its_first_sheet_whatever_it_is_called(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [
        [None],
        ["text", "label", "n", None],
        *([*r.values(), 7] for r in ROWS),
        [None] * 9,
    ]:
        book.active.append(row)
    for name in ("rows.xlsx", "rows.csv"):
        book.save(tmp_path / name)
        rows, remarks = rows_in(tmp_path / name)
        assert rows == ROWS
        assert remarks == ([] if name == "rows.xlsx" else ["an Excel workbook"])
    assert read_all_columns(tmp_path / "rows.xlsx") == [{**row, "n": 7} for row in ROWS]
    with pytest.raises(UserError, match=r"row 1: column 'n' holds a number \(7\), not text"):
        read_row_file(tmp_path / "rows.xlsx", ["n"], None)
    book.create_sheet("more")
    book.save(tmp_path / "rows.xlsx")
    assert rows_in(tmp_path / "rows.xlsx")[1] == ["sheet 'Sheet', the first of 2"]


def test_a_workbook_without_its_extra_is_one_line_that_says_how_to_install(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "rows.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    monkeypatch.setattr(extras, "is_installed", lambda extra: False)
    with pytest.raises(UserError, match=r"an Excel workbook, needs the package openpyxl, .*excel"):
        rows_in(tmp_path / "rows.xlsx")


def test_text_of_two_bytes_a_letter_without_a_mark_is_named(tmp_path):
    (tmp_path / "rows.csv").write_bytes(delimited(",").encode("utf-16-le"))
    with pytest.raises(
        UserError, match=r"not UTF-8 text but utf-16-le, it seems: .* --encoding utf"
    ):
        rows_in(tmp_path / "rows.csv")
    assert rows_in(tmp_path / "rows.csv", Reading(encoding="UTF-16LE"))[0] == ROWS


def test_of_other_scripts_no_encoding_is_guessed(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"text,label\n\xcf\xf0\xe8\xe2\xe5\xf2,x\n")
    with pytest.raises(
        UserError, match=r"not UTF-8 text \(byte 12\): save it as UTF-8, or prepare"
    ):
        rows_in(tmp_path / "rows.csv")


def test_several_files_are_one_after_another(tmp_path):
    (tmp_path / "b.jsonl").write_text(LINES)
    (tmp_path / "a.csv").write_text(delimited(";"))
    (tmp_path / "c.csv").write_text(delimited(";"))
    files = found_files([tmp_path / "*.*"])
    notes: list[str] = []
    assert [path.name for path in files] == ["a.csv", "b.jsonl", "c.csv"]
    rows = read_row_files(files, ["text"], "label", BY_ITSELF, notes)
    assert rows["text"] == [row["text"] for row in ROWS] * 3
    assert rows["label"] == [row["label"] for row in ROWS] * 3
    assert notes == ["a.csv and 1 more: read as semicolon-separated"]
    (tmp_path / "d.jsonl").write_text('{"text": "a", "label": 3}')
    with pytest.raises(UserError, match=r"'label' holds text in a.csv and numbers in d.jsonl"):
        read_row_files([*files, tmp_path / "d.jsonl"], ["text"], "label", BY_ITSELF, notes)


def test_patterns_and_folders_stand_for_files_in_the_order_of_their_names(tmp_path):
    for name in ("b.txt", "a.txt", "c.txt.gz", "d.csv", "odd[1].txt"):
        (tmp_path / name).touch()
    found = [path.name for path in found_files([tmp_path])]
    assert found == ["a.txt", "b.txt", "c.txt.gz", "odd[1].txt"]
    assert found_files([tmp_path / "odd[1].txt"]) == [tmp_path / "odd[1].txt"]
    assert found_files([tmp_path / "[ab].txt"]) == [tmp_path / "a.txt", tmp_path / "b.txt"]
    assert found_files([tmp_path / "none.txt"]) == [tmp_path / "none.txt"]
    with pytest.raises(UserError, match=r"no file fits the pattern .*x"):
        found_files([tmp_path / "x*"])


def test_what_was_plain_is_not_said():
    assert notes_on({"a": [], "b": ["gzip", "UTF-16"]}) == ["b: read as gzip, UTF-16"]
