"""Setting rows aside: which rows of train become validation and test, by seed.

The order in which rows are set aside follows from their content and the seed alone. Rows with the
same text stay together, so that no text is on both sides of a cut, and where there are labels
every stretch of the order has them in the proportion of the whole.
"""

import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence

from gpt2_tuning.data.labels import hidden_labels
from gpt2_tuning.data.rows import Rows
from gpt2_tuning.errors import UserError

SHARE = 0.1
"""Share of the train rows that a missing split is given."""
QUOTED = json.JSONEncoder().encode
ROW_DIGEST = functools.partial(hashlib.blake2b, digest_size=16)


def without_hidden_test(
    splits: dict[str, Rows], label_column: str, split_names: Mapping[str, str]
) -> tuple[dict[str, Rows], dict[str, str]]:
    """The splits with which one can test, and where each came from.

    Benchmarks such as GLUE keep the labels of their test split secret: the official validation
    split then tests, so that figures compare with published ones, and train gives up rows to
    validate.
    """
    given = dict.fromkeys(splits, "given")
    if "test" not in splits or not hidden_labels(splits["test"], label_column):
        return splits, given
    kept = {"train": splits["train"]}
    given = {"train": "given"}
    if "validation" in splits:
        called = split_names.get("validation", "validation")
        kept["test"] = splits["validation"]
        given["test"] = f"given as {called} (labels of test are hidden)"
    return kept, given


def cut_rows(
    texts: Sequence[bytes], labels: Sequence[int] | None, missing: Sequence[str], seed: int
) -> dict[str, list[int]]:
    """Cuts the missing splits from train: a tenth of the rows each, at least one.

    Args:
        texts: for each row a digest of its text; rows with the same one stay together.
        labels: for each row its class, where there are classes.
        missing: the splits to cut.
        seed: another one cuts other rows.

    Returns:
        The row numbers, ascending, of train and of each split in `missing`.

    Raises:
        UserError: there are too few different rows.
    """
    groups = mixed_order(texts, labels, seed)
    if len(groups) < len(missing) + 1:
        raise UserError(
            f"train has {len(groups)} different rows, too few to set {' and '.join(missing)} aside:"
            " at least one row must be left for each split"
        )
    target = max(1, round(SHARE * len(texts)))
    parts: dict[str, list[int]] = {}
    for split in missing:
        part: list[int] = []
        rest = []
        for group in groups:
            if len(part) + len(group) <= target:
                part += group
            else:
                rest.append(group)
        if not part:  # every text is repeated more often than a tenth of the rows
            part = min(rest, key=len)
            rest.remove(part)
        parts[split] = sorted(part)
        groups = rest
    return {"train": sorted(row for group in groups for row in group), **parts}


def mixed_order(texts: Sequence[bytes], labels: Sequence[int] | None, seed: int) -> list[list[int]]:
    """Rows grouped by text, shuffled by seed and spread evenly over the labels.

    A group counts for the label of its first row. Its place is its rank among the groups of that
    label, as a share of them; the last group of each label comes at the end, so that train keeps
    one whenever it can.
    """
    rows_of: dict[bytes, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        rows_of[text].append(row)
    key = str(seed).encode()
    shuffled = sorted(rows_of, key=lambda text: hashlib.blake2b(text, key=key).digest())
    by_label: dict[int, list[list[int]]] = defaultdict(list)
    for text in shuffled:
        group = rows_of[text]
        by_label[0 if labels is None else int(labels[group[0]])].append(group)
    placed = []
    for groups in by_label.values():
        for rank, group in enumerate(groups, start=1):
            place = (rank == len(groups), (rank - 0.5) / len(groups))
            placed.append((place, group))
    return [group for _, group in sorted(placed, key=lambda item: item[0])]


def limited_rows(
    texts: Sequence[bytes], labels: Sequence[int] | None, limit: int, seed: int
) -> list[int]:
    """The numbers, ascending, of the `limit` rows that come first in the mixed order."""
    order = [row for group in mixed_order(texts, labels, seed) for row in group]
    return sorted(order[:limit])


def row_digests(rows: Rows, columns: Sequence[str]) -> list[bytes]:
    """For each row, a digest of what it holds in these columns; missing text counts as empty."""
    digests = []
    for batch in rows.batches(columns):
        for values in zip(*(batch[name] for name in columns), strict=True):
            # What json.dumps makes of the list, in a third of the time.
            content = f"[{', '.join([QUOTED(value or '') for value in values])}]".encode()
            digests.append(ROW_DIGEST(content).digest())
    return digests


def fingerprint(
    splits: dict[str, Rows], columns: Sequence[str], label_names: Sequence[str] | None
) -> str:
    """The sha256 of everything the rows hold in these columns, in order, and of nothing else.

    The order of the columns, the file format and whether classes came as names or numbers make
    no difference.

    Args:
        splits: label columns as class numbers.
        columns: text columns, and the label column last where there are `label_names`.
        label_names: the name of each class number.
    """
    texts = columns[:-1] if label_names is not None else columns
    total = hashlib.sha256()
    for split, rows in splits.items():
        add_to_fingerprint(total, split, row_digests(rows, sorted(texts)), sorted(texts))
        if label_names is not None:
            names = [label_names[number] for number in rows[columns[-1]]]
            total.update(json.dumps(names).encode())
    return total.hexdigest()


def add_to_fingerprint(
    total: "hashlib._Hash", split: str, digests: Sequence[bytes], columns: Sequence[str]
) -> None:
    """Adds a split to a fingerprint, by the digests of what its rows hold in these columns."""
    total.update(json.dumps([split, len(digests), columns]).encode())
    total.update(b"".join(digests))
