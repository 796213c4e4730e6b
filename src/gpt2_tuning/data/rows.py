"""Rows with named columns, held in Arrow's memory: what every source of data is read into.

`datasets` does the same and more; but importing it takes a second, and each of its selections
pickles and hashes itself, which took longer than reading a small file.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

BATCH = 1000
"""Rows that are Python values at the same time."""
FLOATS = {"halffloat": "float16", "float": "float32", "double": "float64"}
"""Arrow's names of types under those that people know."""


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a split, or some of them; nothing changes them."""

    table: pa.Table
    """All rows: in memory, or mapped from a file that is larger than it."""
    class_names: Mapping[str, list[str]] = dataclasses.field(default_factory=dict)
    """For a column whose numbers stand for classes the names of 0, 1, ..."""
    chosen: np.ndarray | None = None
    """The numbers of those rows of the table that count, ascending; None is all of them."""
    untyped: bool = False
    """Whether a label's type follows from its text alone, as in CSV."""

    @classmethod
    def of(cls, **columns: Any) -> Self:
        """Rows from columns of Python values, or of Arrow's."""
        return cls(pa.table(columns))

    def __len__(self) -> int:
        return self.table.num_rows if self.chosen is None else len(self.chosen)

    def __getitem__(self, column: str) -> list[Any]:
        """All values of a column."""
        return [value for batch in self.batches([column]) for value in batch[column]]

    @property
    def column_names(self) -> list[str]:
        """The columns, in order."""
        return self.table.column_names

    def kind(self, column: str) -> str:
        """The type of a column's values, such as string, int64, float64 or (for others) lists."""
        found = self.table.schema.field(column).type
        return "lists" if pa.types.is_nested(found) else FLOATS.get(str(found), str(found))

    def batches(
        self, columns: Sequence[str] | None = None, size: int = BATCH
    ) -> Iterator[dict[str, list[Any]]]:
        """All rows, up to `size` at a time, each column of them as a list."""
        table = self.table if columns is None else self.table.select(list(columns))
        for start in range(0, len(self), size):
            if self.chosen is None:
                part = table.slice(start, size)
            else:
                # They ascend, so nothing but a stretch of the table need be looked at.
                numbers = self.chosen[start : start + size]
                stretch = table.slice(int(numbers[0]), int(numbers[-1] - numbers[0]) + 1)
                part = stretch.take(pa.array(numbers - numbers[0]))
            yield {name: part.column(name).to_pylist() for name in part.column_names}

    def own(self, values: np.ndarray) -> np.ndarray:
        """Of values for all rows of the table, those for the rows that count."""
        return values if self.chosen is None else values[self.chosen]

    def holding(self, text: str, columns: Sequence[str]) -> np.ndarray:
        """bool[rows]: whether a row has the text anywhere in one of these columns of strings."""
        found = np.zeros(self.table.num_rows, bool)
        for column in map(self.table.column, columns):
            if not pa.types.is_null(column.type):
                found |= pc.match_substring(column, text).fill_null(False).to_numpy()
        return self.own(found)

    def select(self, numbers: Sequence[int]) -> Self:
        """Some of the rows, by their numbers, which must ascend."""
        wanted = np.asarray(numbers, np.int64)
        if (np.diff(wanted) <= 0).any():
            raise ValueError("rows are selected in their order, each once")
        chosen = wanted if self.chosen is None else self.chosen[wanted]
        return dataclasses.replace(self, chosen=chosen)

    def with_column(self, name: str, values: Any, class_names: list[str] | None = None) -> Self:
        """The rows with a column added, or put in the place of the one of that name.

        Raises:
            ValueError: these are only some of the rows of their table.
        """
        if self.chosen is not None:
            raise ValueError("a column is for all rows of a table")
        others = self.table.drop_columns([name]) if name in self.column_names else self.table
        names = {key: value for key, value in self.class_names.items() if key != name}
        if class_names is not None:
            names[name] = class_names
        return dataclasses.replace(
            self, table=others.append_column(name, pa.array(values)), class_names=names
        )

    def renamed(self, old: str, new: str) -> Self:
        """The rows with another name for a column without classes."""
        names = [new if name == old else name for name in self.column_names]
        return dataclasses.replace(self, table=self.table.rename_columns(names))
