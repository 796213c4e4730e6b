"""What preparation found in the rows: what was dropped or cut, how long texts are, what repeats."""

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from gpt2_tuning.data.examples import LEARNT, Dropped, Example
from gpt2_tuning.data.labels import shown_name
from gpt2_tuning.data.tokenizer import Tokenizer, id_array

NO_TEXT = "empty"
"""Why a row is dropped of which nothing more is said."""
COUNTED = {
    "labels_trimmed": "labels trimmed of blanks",
    "end_of_text_written": "texts with {end_text}",
}
"""What the counts of a Source are called, which are shown where there are any."""
PERCENTILES = {"p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "max": 100}


class SplitTally:
    """Counts one split while its examples stream by.

    Two examples are duplicates when the model would see the same tokens, whatever their labels.
    """

    def __init__(self, earlier_splits: set[bytes], tokenizer: Tokenizer) -> None:
        """`earlier_splits` holds the token digests of the splits counted before this one."""
        self.seen: set[bytes] = set()
        self._earlier = earlier_splits
        self._tokenizer = tokenizer
        self._lengths = array("q")
        self._labels: Counter[int] = Counter()
        self._reasons: Counter[str] = Counter()
        self._truncated = self._within = self._across = self._supervised = 0

    def add(self, rows: Sequence[Example | Dropped | None]) -> list[Example]:
        """Counts some rows; None is a row that was dropped because it holds no text.

        Returns:
            Those of them that are examples.
        """
        examples = [row for row in rows if isinstance(row, Example)]
        dropped = (row for row in rows if not isinstance(row, Example))
        self._reasons.update(row.reason if row else NO_TEXT for row in dropped)
        self._lengths.extend([len(example.token_ids) for example in examples])
        self._truncated += sum([example.truncated for example in examples])
        self._labels.update([e.extras["label"] for e in examples if "label" in e.extras])
        self._supervised += sum(
            [
                sum(example.extras[LEARNT])
                if LEARNT in example.extras
                else len(example.token_ids) - example.extras["prompt_length"]
                for example in examples
                if "prompt_length" in example.extras
            ]
        )
        for example in examples:
            ids = id_array(self._tokenizer, example.token_ids)
            digest = hashlib.blake2b(ids, digest_size=16).digest()
            self._within += digest in self.seen
            self._across += digest in self._earlier
            self.seen.add(digest)
        return examples

    @property
    def dropped_reasons(self) -> dict[str, int]:
        """How many rows were dropped for which reason."""
        return dict(sorted(self._reasons.items()))

    def summary(self, label_names: Sequence[str] | None) -> dict[str, Any]:
        """The counts as metadata.json has them; there must be at least one example.

        `lengths` are percentiles in tokens (the least length that so many per cent do not exceed).
        `duplicates_within` counts the repeats of an example of the same split, and
        `duplicates_across` the examples that an earlier split has too.
        """
        lengths = np.frombuffer(self._lengths, np.int64)
        found = np.percentile(lengths, list(PERCENTILES.values()), method="inverted_cdf")
        summary: dict[str, Any] = {
            "examples": len(lengths),
            "dropped": self._reasons.total(),
            "truncated": self._truncated,
            "duplicates_within": self._within,
            "duplicates_across": self._across,
            "supervised_tokens": self._supervised,
            "dropped_reasons": self.dropped_reasons,
            "tokens": int(lengths.sum()),
            "lengths": dict(zip(PERCENTILES, map(int, found), strict=True)),
        }
        if self._supervised:
            summary["supervised_share"] = round(self._supervised / summary["tokens"], 4)
        if label_names is not None:
            summary["labels"] = {name: self._labels[i] for i, name in enumerate(label_names)}
        return summary


def report_table(splits: Mapping[str, Mapping[str, Any]], end_text: str) -> Table:
    """The `splits` of metadata.json as a table for the screen, a column for each split.

    `end_text` is how the end of text is written in letters.
    """
    table = Table(title="prepared data", title_justify="left")
    table.add_column("")
    for split in splits:
        table.add_column(split, justify="right")

    def line(name: str, values: Sequence[object]) -> None:
        # As Text: what stands in brackets in a class's name is no markup.
        shown = (f"{v:,}" if isinstance(v, int) else str(v) for v in values)
        table.add_row(*map(Text, [name, *shown]))

    found = list(splits.values())
    line("origin", [split["origin"] for split in found])
    line("rows", [split["rows"] for split in found])
    reasons = {reason: None for split in found for reason in split["dropped_reasons"]}
    for reason in reasons or [NO_TEXT]:
        line(f"{reason}, dropped", [split["dropped_reasons"].get(reason, 0) for split in found])
    for count, name in COUNTED.items():
        if any(split.get(count) for split in found):
            line(name.format(end_text=end_text), [split.get(count, 0) for split in found])
    line("examples", [split["examples"] for split in found])
    line("truncated", [split["truncated"] for split in found])
    line("repeated in the split", [split["duplicates_within"] for split in found])
    line("also in an earlier split", [split["duplicates_across"] for split in found])
    line("tokens", [split["tokens"] for split in found])
    if any(split["supervised_tokens"] for split in found):
        pairs = [(split["supervised_tokens"], split["tokens"]) for split in found]
        line("supervised tokens", [with_share(*pair) for pair in pairs])
    lengths = [split["lengths"] for split in found]
    line("length p5 / p50 / p95", [f"{x['p5']} / {x['p50']} / {x['p95']}" for x in lengths])
    line("longest", [x["max"] for x in lengths])
    if all("labels" in split for split in found):
        table.add_section()
        for name in found[0]["labels"]:
            line(shown_name(name), [with_share(s["labels"][name], s["examples"]) for s in found])
    return table


def with_share(count: int, total: int) -> str:
    """A count with its share of the total."""
    return f"{count:,} ({count / total:.1%})"
