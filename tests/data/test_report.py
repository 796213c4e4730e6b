from rich.console import Console

from gpt2_tuning.data.examples import Example
from gpt2_tuning.data.report import SplitTally, report_table
from gpt2_tuning.data.tokenizer import GPT2Tokenizer


def tally_of(examples, earlier=()):
    tally = SplitTally(set(earlier), GPT2Tokenizer())
    tally.add(examples)
    return tally


def labelled(ids, label, truncated=False):
    return Example(ids, {"label": label}, truncated)


def test_summary_counts_what_streamed_by():
    examples = [
        labelled([1, 2, 3], 0),
        None,
        labelled([4], 2),
        labelled([5, 6], 2, truncated=True),
        None,
        labelled([7, 8, 9, 10], 0),
    ]
    assert tally_of(examples).summary(["x", "y", "z"]) == {
        "examples": 4,
        "dropped": 2,
        "truncated": 1,
        "duplicates_within": 0,
        "duplicates_across": 0,
        "supervised_tokens": 0,
        "dropped_reasons": {"empty": 2},
        "tokens": 10,
        "lengths": {"p5": 1, "p25": 1, "p50": 2, "p75": 3, "p95": 4, "max": 4},
        "labels": {"x": 2, "y": 0, "z": 2},
    }


def test_duplicates_are_rows_of_equal_tokens_whatever_their_label():
    train = tally_of([labelled([1, 2], 0), labelled([1, 2], 1), labelled([1, 2], 0)])
    test = tally_of([labelled([1, 2], 0), labelled([12], 0), labelled([3], 0)], train.seen)
    assert train.summary(None)["duplicates_within"] == 2
    assert test.summary(None)["duplicates_within"] == 0
    assert test.summary(None)["duplicates_across"] == 1


def test_supervised_tokens_are_those_after_the_prompt():
    tally = tally_of([Example([1, 2, 3], {"prompt_length": 1}), Example([1], {"prompt_length": 0})])
    summary = tally.summary(None)
    assert summary["supervised_tokens"] == 3
    assert "labels" not in summary


def shown_table(splits):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(report_table(splits, "<|endoftext|>"))
    return capture.get()


def test_class_names_are_shown_as_they_are_and_with_quotes_where_they_hold_blanks():
    names = ["plain", "very good", "[/x]", "[red]"]
    found = tally_of([labelled([1], number) for number in range(4)]).summary(names)
    shown = shown_table({"train": {"origin": "given", "rows": 4, **found}})
    for name in ("│ plain ", '│ "very good" ', "│ [/x] ", "│ [red] "):
        assert name in shown


def test_counts_are_shown_for_all_splits_where_any_has_some():
    found = {"origin": "given", "rows": 1, **tally_of([labelled([1], 0)]).summary(None)}
    shown = shown_table({"train": {**found, "labels_trimmed": 1234}, "test": found})
    line = next(line for line in shown.splitlines() if "labels trimmed of blanks" in line)
    assert [cell.strip() for cell in line.split("│")[2:4]] == ["1,234", "0"]
    assert "<|endoftext|>" not in shown
    assert "texts with <|endoftext|>" in shown_table({"a": {**found, "end_of_text_written": 1}})
    assert "trimmed" not in shown_table({"train": {**found, "labels_trimmed": 0}})


def test_table_shows_every_split_with_its_labels():
    found = tally_of([labelled([1, 2], 0), labelled([3] * 1500, 1), None]).summary(["x", "y"])
    splits = {"train": {"origin": "given", "rows": 3, **found}}
    text = shown_table(splits)
    for part in ("train", "given", "1,502", "1,500", "1 (50.0%)", "empty, dropped"):
        assert part in text
