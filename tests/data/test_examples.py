import pytest

from gpt2_tuning.data.examples import text_example


def test_short_text_is_kept_whole():
    example = text_example([10, 11, 12], 2, seq_len=4)
    assert (example.token_ids, example.extras, example.truncated) == (
        [10, 11, 12], {"label": 2}, False,
    )  # fmt: skip


def test_text_of_exactly_seq_len_is_not_truncated():
    example = text_example([10, 11, 12, 13], 1, seq_len=4)
    assert (example.token_ids, example.truncated) == ([10, 11, 12, 13], False)


def test_long_text_keeps_its_first_tokens():
    example = text_example([10, 11, 12, 13, 14], 0, seq_len=4)
    assert (example.token_ids, example.extras, example.truncated) == (
        [10, 11, 12, 13], {"label": 0}, True,
    )  # fmt: skip


def test_text_without_tokens_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        text_example([], 0, seq_len=4)
