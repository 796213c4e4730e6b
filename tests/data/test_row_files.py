import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from gpt2_tuning.data.row_files import read_all_columns, read_row_file
from gpt2_tuning.errors import UserError

ODD_TEXTS = ["007", "NA", "null", "1e5", "2020-01-01T00:00:00Z", " spaces ", "", 'a "quote', "é漢"]


def write_rows(path, texts, labels):
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".csv":
        quoted = [
            [f'"{text.replace(chr(34), chr(34) * 2)}"', label]
            for text, label in zip(texts, labels, strict=True)
        ]
        path.write_text("text,label\n" + "".join(f"{t},{n}\n" for t, n in quoted), encoding="utf-8")
    else:
        lines = [f"{text}\t{label}\n" for text, label in zip(texts, labels, strict=True)]
        path.write_text("text\tlabel\n" + "".join(lines), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".parquet"])
def test_text_arrives_as_it_was_written_in_every_format(suffix, tmp_path):
    path = write_rows(tmp_path / f"rows{suffix}", ODD_TEXTS, range(len(ODD_TEXTS)))
    rows = read_row_file(path, ["text"], "label")
    assert rows["text"][:] == ODD_TEXTS
    labels = range(len(ODD_TEXTS))
    assert rows.untyped == (suffix in (".csv", ".tsv"))
    assert rows["label"] == [str(label) if rows.untyped else label for label in labels]


def test_only_the_wanted_columns_are_kept(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("id,topic,body\n1,x,one\n2,y,two\n")
    rows = read_row_file(path, ["body"], "topic")
    assert rows.column_names == ["body", "topic"]
    assert read_row_file(path, ["topic", "body"], None).column_names == ["topic", "body"]


@pytest.mark.parametrize("content", ['[{"text": "a"}]', ' \n[{"text":\n"a"}]', '{"text": "a"}\n\n'])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_both_json_layouts_work_under_both_suffixes(content, suffix, tmp_path):
    path = tmp_path / f"rows{suffix}"
    path.write_text(content)
    assert read_row_file(path, ["text"], None)["text"][:] == ["a"]


def test_byte_order_mark_and_line_ends_of_windows_are_no_content(tmp_path):
    for name, content in {
        "a.jsonl": '\ufeff{"text": "a"}\r\n{"text": "b"}\r\n',
        "a.csv": "\ufefftext\r\na\r\nb\r\n",
        "a.tsv": "\ufefftext\tx\r\na\t1\r\nb\t2\r\n",
    }.items():
        (tmp_path / name).write_bytes(content.encode())
        assert read_row_file(tmp_path / name, ["text"], None)["text"][:] == ["a", "b"]


def test_unescaped_line_separator_inside_a_json_string_is_text(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a\u2028b\u0085c"}\n', encoding="utf-8")
    assert read_row_file(path, ["text"], None)["text"][:] == ["a\u2028b\u0085c"]


def test_quotes_in_tsv_are_only_characters(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text('text\tlabel\n"open\ta\nplain\tb\n5" disk\ta\n')
    assert read_row_file(path, ["text"], "label")["text"][:] == ['"open', "plain", '5" disk']


def test_text_of_a_megabyte_is_read_from_csv(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text\n" + "x" * 1_000_000 + "\n")
    assert len(read_row_file(path, ["text"], None)["text"][0]) == 1_000_000


def test_changed_file_is_read_again(tmp_path):
    path = tmp_path / "rows.csv"
    for text in ("one", "two"):
        path.write_text(f"text\n{text}\n")
        assert read_row_file(path, ["text"], None)["text"][:] == [text]
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.csv"]


def test_missing_texts_are_none(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "x": 1}\n{"x": 2}\n{"text": null}\n')
    assert read_row_file(path, ["text"], None)["text"][:] == ["a", None, None]


def test_label_cells_of_csv_are_text_as_it_was_written(tmp_path):
    path = write_rows(tmp_path / "rows.csv", ["a"] * 4, ["1", " 2.0", "", "nan"])
    assert read_row_file(path, ["text"], "label")["label"] == ["1", " 2.0", "", "nan"]


def test_class_names_in_parquet_are_kept(tmp_path, datasets):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["z", "a"])}
    )
    table = datasets.Dataset.from_dict({"text": ["x", "y"], "label": [1, 0]}, features=features)
    pyarrow.parquet.write_table(table.data.table, tmp_path / "rows.parquet")
    rows = read_row_file(tmp_path / "rows.parquet", ["text"], "label")
    assert rows.class_names == {"label": ["z", "a"]}


def test_categorical_columns_in_parquet_are_read_as_their_values(tmp_path):
    table = pa.table({"text": pa.array(["a", "b"]).dictionary_encode()})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    assert read_row_file(tmp_path / "rows.parquet", ["text"], None)["text"][:] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.txt", b"text", "unknown format rows.txt: the name must end in .json, .jsonl, .csv"),
        ("rows.jsonl", b"", "empty file"),
        ("rows.json", b"[]", "no rows"),
        ("rows.json", b"[", "cannot parse .*rows.json: .* at line 1, column 2"),
        ("rows.json", b'[{"text": "a"},\n {"text": }]', "cannot parse .* at line 2, column 11"),
        ("rows.jsonl", b"\n \n", "no rows"),
        ("rows.csv", b"\n", "no rows"),
        ("rows.csv", b"text,label\n", "no rows"),
        ("rows.jsonl", b'{"text": "a"}\n{"text": "b"\n', "cannot parse .*rows.jsonl: .* at line 2"),
        ("rows.jsonl", b'{"text": "a"}\n[1]\n', "rows.jsonl, line 2: a row must be a JSON object"),
        ("rows.json", b'["a"]', "rows.json, row 1: a row must be a JSON object, not str"),
        ("rows.csv", b"text,label\na,b\na,b,c\n", "line 3 has 3 columns, the header has 2"),
        ("rows.csv", b'text,label\na,b\n"open,b\n', r"cannot parse .*rows.csv: .* \(line 3\)"),
        ("rows.csv", b"title,label\na,b\n", "rows.csv has no column 'text'; its columns: title, l"),
        ("rows.jsonl", b'{"a": 1}\n{"b": 2}\n', "no column 'text'; its columns: a, b"),
        ("rows.parquet", b"PAR1 not really", "cannot parse .*rows.parquet"),
        ("rows.csv", b"text,label\n\xff\xfe,b\n", r"is not UTF-8 text \(byte 12\)"),
        ("rows.jsonl", b'{"text": 5, "label": "a"}\n', "'text' holds a number .5., not text"),
        ("rows.jsonl", b'{"text": ["a"], "label": "a"}', "row 1: column 'text' holds a list, not"),
        (
            "rows.jsonl",
            b'{"text": "a", "label": 1}\n{"text": "a"}\n{"text": "a", "label": "b"}',
            r"rows.jsonl: column 'label' holds a number in row 1 and text in row 3: give all rows "
            "the same kind$",
        ),
        (
            "rows.json",
            b'[{"text": "a", "label": 1.0}, {"text": "a", "label": true}]',
            "'label' holds a number in row 1 and true or false in row 2",
        ),
        (
            "rows.json",
            b'[{"text": "a", "label": false}, {"text": "a", "label": 0}]',
            "'label' holds true or false in row 1 and a number in row 2",
        ),
        (
            "rows.jsonl",
            b'{"text": "a", "label": 100000000000000000000}',
            "'label' holds numbers of more than 64 bits",
        ),
        ("rows.jsonl", b'{"text": "a"}\n{"text": "b", "text": "c"}', "line 2: .* key 'text' twice"),
        ("rows.json", b'[{"text": "a", "x": 1, "x": 1}]', "rows.json, line 1: .* key 'x' twice"),
        ("rows.csv", b"text,x,x\na,b,c\n", "rows.csv has 2 columns called 'x': rename or remove"),
        ("rows.tsv", b"text\ttext\na\tb\n", "rows.tsv has 2 columns called 'text': rename"),
        ("rows.jsonl", b'{"text": "a\\ud83d"}', "row 1, column 'text': .*lone surrogate U.D83D"),
    ],
)  # fmt: skip
def test_file_that_cannot_be_used_is_one_clear_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    label = "label" if b"label" in content else None
    with pytest.raises(UserError, match=message):
        read_row_file(tmp_path / name, ["text"], label)


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".tsv", ".parquet"])
def test_all_columns_of_every_format_can_be_read_as_plain_rows(suffix, tmp_path):
    path = write_rows(tmp_path / f"rows{suffix}", ODD_TEXTS, ["x"] * len(ODD_TEXTS))
    assert read_all_columns(path) == [{"text": text, "label": "x"} for text in ODD_TEXTS]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.txt", b"a", "unknown format"),
        ("rows.csv", b"", "empty file"),
        ("rows.csv", b"text\n", "no rows"),
        ("rows.csv", b"\n", "no rows"),
        ("rows.json", b"[]", "no rows"),
        ("rows.csv", b"a,b\n1\n", "line 2 has 1 columns"),
        ("rows.jsonl", b"[1]", "must be a JSON object"),
        ("rows.jsonl", b"{", "cannot parse"),
        ("rows.tsv", b"a\n\xff\n", "is not UTF-8"),
        ("rows.parquet", b"PAR1 not really", "cannot parse"),
        ("rows.csv", b"a,b,a,a\n1,2,3,4\n", "rows.csv has 3 columns called 'a'"),
        ("rows.jsonl", b'{"a": 1, "a": 2}', "rows.jsonl, line 1: an object has the key 'a' twice"),
    ],
)
def test_file_whose_columns_cannot_be_read_is_one_clear_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_all_columns(tmp_path / name)


def test_missing_file_and_directory_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no such file: .*none\.csv"):
        read_row_file(tmp_path / "none.csv", ["text"], None)
    (tmp_path / "directory.csv").mkdir()
    with pytest.raises(UserError, match=r"directory\.csv is a directory: give the files in it"):
        read_row_file(tmp_path / "directory.csv", ["text"], None)


def test_parquet_file_with_two_columns_of_one_name_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    twice = pa.Table.from_arrays([pa.array(["a"])] * 3, ["text", "x", "x"])
    pyarrow.parquet.write_table(twice, path)
    for read in (lambda: read_row_file(path, ["text"], None), lambda: read_all_columns(path)):
        with pytest.raises(UserError, match=r"rows\.parquet has 2 columns called 'x'"):
            read()


def test_columns_without_a_name_may_be_several_unless_one_is_wanted(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("text,,label,\na,1,x,2\n")
    assert read_row_file(path, ["text"], "label")["label"] == ["x"]
    assert read_all_columns(path) == [{"text": "a", "": "2", "label": "x"}]
    with pytest.raises(UserError, match=r"rows\.csv has 2 columns called ''"):
        read_row_file(path, [""], "label")


def test_column_that_is_wanted_twice_is_read_once(tmp_path):
    path = write_rows(tmp_path / "rows.csv", ["a", "b"], ["x", "y"])
    assert read_row_file(path, ["text", "text"], "text")["text"] == ["a", "b"]


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_nan_in_json_is_a_missing_value(suffix, tmp_path):
    path = write_rows(tmp_path / f"rows{suffix}", ["a", float("nan")], [float("nan"), "x"])
    rows = read_row_file(path, ["text"], "label")
    assert (rows["text"], rows["label"]) == (["a", None], [None, "x"])
    assert read_all_columns(path)[0] == {"text": "a", "label": None}


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_windows_line_ends_within_texts_are_read_as_unix_ones(suffix, tmp_path):
    path = write_rows(tmp_path / f"rows{suffix}", ["a\r\nb\r\n\r\n", "a\rb", "plain"], "xyz")
    if suffix == ".csv":  # written with the line ends of the machine
        path.write_bytes(b'text,label\r\n"a\r\nb\r\n\r\n",x\r\n"a\rb",y\r\nplain,z\r\n')
    rows = read_row_file(path, ["text"], "label")
    assert rows["text"] == ["a\nb\n\n", "a\rb", "plain"]
    assert rows["label"] == ["x", "y", "z"]


def test_class_names_of_a_column_that_is_not_of_integers_are_ignored(tmp_path):
    features = {"text": {"_type": "Value"}, "label": {"names": ["z", "a"], "_type": "ClassLabel"}}
    note = {"info": {"features": features}}
    table = pa.table({"text": ["x", "y"], "label": ["p", "q"]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(note)})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    assert read_row_file(tmp_path / "rows.parquet", ["text"], "label").class_names == {}


def test_texts_in_parquet_that_are_not_utf8_are_refused(tmp_path):
    texts = pa.array([b"fine", b"caf\xe9", b"x"]).view(pa.string())
    pyarrow.parquet.write_table(pa.table({"text": texts}), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match="is damaged, or holds texts that are not UTF"):
        read_row_file(tmp_path / "rows.parquet", ["text"], None)


def test_a_note_in_parquet_that_is_nested_beyond_reading_is_none(tmp_path):
    table = pa.table({"text": ["a"]}).replace_schema_metadata({b"huggingface": b"[" * 100_000})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    assert read_row_file(tmp_path / "rows.parquet", ["text"], None)["text"] == ["a"]
