"""A small file has bounds: what is just within them is read, what is beyond is named."""

import pytest

from gpt2_tuning.errors import UserError
from gpt2_tuning.small_files import MOST_BYTES, MOST_DEPTH, MOST_DIGITS, read_json, read_yaml


def nested(depth):
    return '{"a": ' * depth + "1" + "}" * depth


BOUNDS = {
    "depth": (nested(MOST_DEPTH), nested(MOST_DEPTH + 1), "are nested more than 40 deep"),
    "digits": (
        f'{{"a": {"9" * MOST_DIGITS}}}',
        f'{{"a": {"9" * 41}}}',
        "a number of 41 digits; 40",
    ),
    "minus": ('{"a": -7}', f'{{"a": -{"9" * 5000}}}', "a number of 5,001 digits"),
}


@pytest.mark.parametrize("read", [read_json, read_yaml])
@pytest.mark.parametrize("bound", BOUNDS)
def test_what_is_within_a_bound_is_read_and_what_is_beyond_is_named(read, bound, tmp_path):
    within, beyond, message = BOUNDS[bound]
    path = tmp_path / "file"
    path.write_text(within, encoding="utf-8-sig")  # as some editors save it
    assert set(read(path)) == {"a"}
    path.write_text(beyond)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "file"
    path.write_text("{}" + " " * (MOST_BYTES - 2))
    assert read_json(path) == {}
    with path.open("a") as file:
        file.truncate(100 * 2**30)  # takes no room on the disk
    with pytest.raises(UserError, match="file is larger than 32,768 KiB, the most that is read"):
        read_json(path)


def test_half_of_a_character_is_refused_as_no_text_could_hold_it(tmp_path):
    path = tmp_path / "file"
    path.write_text('{"a": "\\ud83d\\ude00"}')
    assert read_json(path) == {"a": "😀"}
    path.write_text('{"a": "\\ud83d"}')
    with pytest.raises(UserError, match="it holds half of a character"):
        read_json(path)
