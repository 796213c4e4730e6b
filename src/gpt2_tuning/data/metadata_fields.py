"""What the fields of metadata.json may hold, so that one altered by hand is named at once."""

from collections.abc import Callable, Mapping
from typing import Any

from gpt2_tuning.checks import is_whole
from gpt2_tuning.families.known import MAX_SEQ_LEN

COLUMNS = (["label"], ["prompt_length"])
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
)
"""What a split may count beside its examples."""


def is_mapping_of_text(value: object, *keys: str) -> bool:
    """Whether a value is an object of texts, these keys among them."""
    return (
        isinstance(value, Mapping)
        and all(isinstance(entry, str) for entry in value.values())
        and all(key in value for key in keys)
    )


def are_class_names(value: object) -> bool:
    """Whether a value is a list of two or more different texts that are not blank."""
    return (
        isinstance(value, list)
        and all(isinstance(name, str) and name.strip() for name in value)
        and len(set(value)) == len(value) >= 2
    )


FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "dataset": (
        lambda value: is_mapping_of_text(value, "name", "source", "fingerprint"),
        "texts, with a name, a source and a fingerprint",
    ),
    "seq_len": (
        lambda value: is_whole(value, 1, MAX_SEQ_LEN),
        f"a whole number from 1 to {MAX_SEQ_LEN}",
    ),
    "columns": (
        lambda value: value in COLUMNS,
        " or ".join(map(str, COLUMNS)),
    ),
    "label_names": (
        lambda value: value is None or are_class_names(value),
        "null or a list of two or more different names",
    ),
    "template": (
        lambda value: value is None or is_mapping_of_text(value, "name", "text"),
        "null or texts, with a name and a text",
    ),
    "split_seed": (is_whole, "a whole number"),
}
"""For each field that any data set may fill as it likes, what makes it right, and that in words."""


def wrong_field(content: Mapping[str, Any]) -> str | None:
    """What is wrong with the first field that is, by its name; None where all fields are right.

    `content` has all fields of Metadata, and its splits list files.
    """
    for name, (is_right, what) in FIELDS.items():
        if not is_right(content[name]):
            return must_be(name, what, content[name])
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
    if not is_whole(entry.get("examples"), 1):
        return must_be("examples", "a whole number, 1 or more", entry.get("examples"))
    for name in COUNTS:
        if name in entry and not is_whole(entry[name], 0):
            return must_be(name, "a whole number, 0 or more", entry[name])
    labels = entry.get("labels")
    if label_names is None:
        return None if labels is None else must_be("labels", "left out without classes", labels)
    if not isinstance(labels, Mapping) or set(labels) != set(label_names):
        return must_be("labels", f"a number for each of {', '.join(label_names)}", labels)
    for name, count in labels.items():
        if not is_whole(count, 0):
            return must_be(f"labels.{name}", "a whole number, 0 or more", count)
    return None


def must_be(field: str, what: str, found: object) -> str:
    """A field that is wrong, in words."""
    shown = repr(found)
    return f"{field} must be {what}, not {shown if len(shown) <= 60 else shown[:60] + '...'}"
