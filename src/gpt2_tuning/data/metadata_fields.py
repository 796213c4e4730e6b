"""What the fields of metadata.json may hold, so that one altered by hand is named at once."""

from collections.abc import Mapping
from typing import Any

from gpt2_tuning import schema
from gpt2_tuning.checks import cut, is_mapping_of_text, is_whole
from gpt2_tuning.data.examples import LEARNT
from gpt2_tuning.schema import Rule, must_be, or_null

COLUMNS = (["label"], ["prompt_length"], ["prompt_length", LEARNT])
"""What records may hold beside token_ids and length."""
COUNTS = (
    "rows",
    "dropped",
    "truncated",
    "tokens",
    "supervised_tokens",
    "duplicates_within",
    "duplicates_across",
    "end_of_text_written",
    "labels_trimmed",
    "turns_dropped",
)
"""What a split may count beside its examples."""
MOST_POSITIONS = 2**20
"""Of any base."""
MOST = 2**53
"""Of counts and seeds, which are computed with in 64 bits."""


def are_class_names(value: object) -> bool:
    """Whether a value is a list of two or more different texts that are not blank."""
    return (
        isinstance(value, list)
        and all(isinstance(name, str) and name.strip() for name in value)
        and len(set(value)) == len(value) >= 2
    )


FIELDS = {
    "dataset": Rule(
        lambda value: is_mapping_of_text(value, "name", "source", "fingerprint"),
        "texts, with a name, a source and a fingerprint",
    ),
    "seq_len": schema.whole(1, MOST_POSITIONS),
    "columns": Rule(lambda value: value in COLUMNS, " or ".join(map(str, COLUMNS))),
    "label_names": or_null(Rule(are_class_names, "a list of two or more different names")),
    "template": or_null(
        Rule(
            lambda value: is_mapping_of_text(value, "name", "text"),
            "texts, with a name and a text",
        )
    ),
    "base": schema.TEXT,
    "split_seed": Rule(lambda value: is_whole(value, -MOST, MOST), "a whole number"),
}
"""For each field that any data set may fill as it likes, what it may hold."""


def wrong_field(content: Mapping[str, Any]) -> str | None:
    """What is wrong with the first field that is, by its name; None where all fields are right.

    `content` has all fields of Metadata, and its splits list files.
    """
    if wrong := schema.wrong_field(content, FIELDS):
        return wrong
    names = content["label_names"]
    if (names is None) == ("label" in content["columns"]):
        return must_be("label_names", f"what goes with the columns {content['columns']}", names)
    for split, entry in content["splits"].items():
        wrong = wrong_entry(entry, names)
        if wrong:
            return f"splits.{split}.{wrong}"
    return None


def wrong_entry(entry: Mapping[str, Any], label_names: list[str] | None) -> str | None:
    """What is wrong with one split, as `wrong_field` says it."""
    files = entry["files"]
    if not files or not all(isinstance(file.get("sha256"), str) for file in files):
        return must_be("files", "a list of one file or more with a name and a sha256", files)
    if not is_whole(entry.get("examples"), 1, MOST):
        return must_be("examples", "a whole number, 1 or more", entry.get("examples"))
    for name in COUNTS:
        if name in entry and not is_whole(entry[name], 0, MOST):
            return must_be(name, "a whole number, 0 or more", entry[name])
    labels = entry.get("labels")
    if label_names is None:
        return None if labels is None else must_be("labels", "left out without classes", labels)
    if not isinstance(labels, Mapping) or set(labels) != set(label_names):
        return must_be("labels", f"a number for each of {cut(', '.join(label_names))}", labels)
    for name, count in labels.items():
        if not is_whole(count, 0, MOST):
            return must_be(f"labels.{name}", "a whole number, 0 or more", count)
    return None
