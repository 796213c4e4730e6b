"""How local files are read where flags say so, and how it is said what they were read as."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from gpt2_tuning.options.preparation import DatasetOptions


@dataclasses.dataclass(frozen=True)
class Reading:
    """What files do not say themselves."""

    delimiter: str | None = None
    """What stands between the cells of CSV and TSV; None is what the file's beginning has."""
    encoding: str | None = None
    """Of files of text; None is UTF-8, or what a byte-order mark says."""
    json_field: str | None = None
    """The key under which a JSON object holds the rows; None is the one that holds any."""
    conversations: tuple[str, ...] = ()
    """Columns of lists of messages, which are read as their JSON text."""
    coerce: bool = False
    """Whether numbers, true and false are taken for texts."""

    @classmethod
    def of(cls, options: "DatasetOptions") -> Self:
        """What the flags say."""
        delimiter = options.delimiter and options.delimiter.replace("\\t", "\t")
        return cls(delimiter, options.encoding, options.json_field, coerce=options.coerce)


BY_ITSELF = Reading()
"""No flag is given."""


def notes_on(remarks: Mapping[str, Sequence[str]]) -> list[str]:
    """What files were read as, where it was not the plain case: a line for all read alike.

    Args:
        remarks: for each file, by its name, what was not, such as `UTF-16`.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for name, found in remarks.items():
        if found:
            alike[", ".join(found)].append(name)
    return [
        f"{first}{f' and {len(others)} more' if others else ''}: read as {how}"
        for how, (first, *others) in alike.items()
    ]
