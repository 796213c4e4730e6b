"""Rows from JSON: a list of objects, one object a line, and the other forms that tools write."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpt2_tuning.data.json_stream import JsonStream, parsed_line
from gpt2_tuning.data.reading import BY_ITSELF, Reading
from gpt2_tuning.data.text_files import opened_text
from gpt2_tuning.errors import UserError
from gpt2_tuning.file_names import inner_suffix

Row = dict[str, Any]


def json_rows(
    path: Path,
    reading: Reading = BY_ITSELF,
    remarks: list[str] | None = None,
    wanted: Sequence[str] = (),
) -> Iterator[Row]:
    """Each row; NaN, which is no JSON, is read as null.

    Lists of objects, objects one a line and objects one after another are told apart by how the
    file begins, whatever its suffix. A single object of a .json file may hold the rows in any of
    the forms of `rows_within`.

    Args:
        path: of a file that is there.
        reading: what the flags say.
        remarks: what was not the plain case is added.
        wanted: columns that are looked for, which tell rows from what holds rows.

    Raises:
        UserError: the file cannot be parsed, or a row is no object.
    """
    remarks = [] if remarks is None else remarks
    with opened_text(path, reading.encoding, remarks) as file:
        stream = JsonStream(file, path)
        kind, line = stream.next_character(), stream.line
        if not kind:
            return
        if kind == "[":
            check_no_field(path, reading)
            yield from listed(stream)
            return
        row = checked_row(stream.value(), f"{path}, line {line}")
        following = lines if stream.line == line else one_after_another
        comma = stream.skip_comma()
        if stream.next_character():
            check_no_field(path, reading)
            yield row
            yield from following(stream, comma, remarks)
        elif reading.json_field or inner_suffix(path) == ".json":
            yield from rows_within(row, path, reading.json_field, wanted, remarks)
        else:
            yield row


def check_no_field(path: Path, reading: Reading) -> None:
    """Raises UserError where a flag names a key in a file that is no single object."""
    if reading.json_field:
        raise UserError(
            f"--json_field {reading.json_field}: {path} has rows outside any object: leave it out"
        )


def checked_row(row: object, where: str) -> Row:
    """The row, if it is a JSON object. Raises UserError when it is anything else."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: a row must be a JSON object, not {type(row).__name__}")
    return row


def lines(stream: JsonStream, commas: bool, remarks: list[str]) -> Iterator[Row]:
    """The further objects of a file that has one a line, with or without commas at their ends."""
    for number, line in stream.lines_left():
        text = line.rstrip()
        if text.endswith(","):
            text, commas = text[:-1], True
        if text:
            row = parsed_line(text, stream.path, number)
            yield (
                row if isinstance(row, dict) else checked_row(row, f"{stream.path}, line {number}")
            )
    if commas:
        remarks.append("lines that end in commas")


def one_after_another(stream: JsonStream, commas: bool, remarks: list[str]) -> Iterator[Row]:
    """The further objects of a file that has them over several lines, with commas between or not.

    `commas` changes nothing: it stands where `lines` needs it.
    """
    count = 1
    while stream.next_character():
        count += 1
        yield checked_row(stream.value(), f"{stream.path}, row {count}")
        stream.skip_comma()
    remarks.append("objects one after another")


def listed(stream: JsonStream) -> Iterator[Row]:
    """The objects of a list."""
    stream.skip()
    count = 0
    more = stream.next_character() != "]"
    while more:
        count += 1
        row = stream.value()
        yield row if isinstance(row, dict) else checked_row(row, f"{stream.path}, row {count}")
        more = stream.skip_comma()
    if stream.next_character() != "]":
        raise stream.unexpected("Expecting ',' delimiter")
    stream.skip()
    if stream.next_character():
        raise stream.unexpected("Extra data")


def rows_within(
    found: Row, path: Path, field: str | None, wanted: Sequence[str], remarks: list[str]
) -> Iterator[Row]:
    """The rows that a single object holds, or is.

    They lie under the key that the flag names; or in one of the forms of pandas, or as a list for
    each column; or under the one key that has a list of objects. Else the object is the row.

    Raises:
        UserError: there is nothing under the key, or several keys have lists of objects.
    """
    lists = [key for key, value in found.items() if is_list_of_objects(value)]
    if field is not None:
        if not is_list_of_objects(found.get(field)):
            there = ", ".join(lists) or "none"
            raise UserError(
                f"{path} has no list of objects under {field!r}; keys that have: {there}"
            )
        lists = [field]
    elif (form := form_of(found, wanted)) is not None:
        remarks.append(form[0])
        yield from form[1]
        return
    elif not lists or any(is_plain(found.get(name)) for name in wanted if name in found):
        remarks.append("a single row")
        yield found
        return
    if len(lists) > 1:
        raise UserError(
            f"{path} has lists of objects under {', '.join(lists)}: keep one, or prepare it with"
            f" --json_field {lists[0]}"
        )
    remarks.append(f"what lies under {lists[0]!r}")
    yield from found[lists[0]]


def is_list_of_objects(value: object) -> bool:
    """Whether a value may be rows."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def is_plain(value: object) -> bool:
    """Whether a value may be a row's."""
    return not isinstance(value, list | dict)


def form_of(found: Row, wanted: Sequence[str]) -> tuple[str, Iterator[Row]] | None:
    """How a single object holds rows by columns, and these rows; None where it does not."""
    values = list(found.values())
    names, data = found.get("columns"), found.get("data")
    if isinstance(names, list) and isinstance(data, list) and {*map(type, data)} <= {list}:
        if all(len(row) == len(names) for row in data):
            return "pandas' split form", (dict(zip(names, row, strict=True)) for row in data)
    elif values and all(isinstance(value, list) for value in values):
        # One that has columns holds no objects: they would be rows.
        if len({*map(len, values)}) == 1 and all(is_plain(one) for one in values[0]):
            return "a list for each column", by_columns(found, values)
    elif values and all(isinstance(value, dict) for value in values):
        inner = list(values[0])
        outside = set(wanted) & set(found) or all(map(str.isdigit, inner))
        if outside and all(list(value) == inner for value in values):
            return "pandas' form by columns", by_columns(found, [[*v.values()] for v in values])
        if set(wanted) & set(inner) or all(map(str.isdigit, found)):
            return "pandas' form by index", iter(values)
    return None


def by_columns(names: Sequence[str] | Row, columns: Sequence[Sequence[Any]]) -> Iterator[Row]:
    """Rows from the names of columns and the values of each."""
    return (dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True))
