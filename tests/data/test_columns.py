import pyarrow as pa
import pytest

from gpt2_tuning.data.columns import unix_newlines, with_unix_newlines


@pytest.mark.parametrize(
    ("text", "turned"),
    [
        ("a\r\nb", "a\nb"),
        ("\r\n\r\n", "\n\n"),
        ("a\rb\n\r", "a\rb\n\r"),
        ("\r\r\n", "\r\n"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_columns_get_the_line_ends_that_single_texts_get(text, turned, kind):
    table = pa.table({"text": pa.array([text, None, "é"], kind), "n": [1, 2, 3]})
    assert unix_newlines(text) == turned
    found = with_unix_newlines(table)
    assert found.to_pydict() == {"text": [turned, None, "é"], "n": [1, 2, 3]}
    assert found.schema == table.schema


def test_stretches_without_windows_line_ends_stay_where_they_are():
    parts = [pa.array(["a", "b"]), pa.array(["c\r\n", "d"]), pa.array(["e"])]
    table = pa.table({"text": pa.chunked_array(parts)})
    found = with_unix_newlines(table).column("text")
    assert found.to_pylist() == ["a", "b", "c\n", "d", "e"]
    same = [
        new.buffers()[2].address == old.buffers()[2].address
        for new, old in zip(found.chunks, parts, strict=True)
    ]
    assert same == [True, False, True]
