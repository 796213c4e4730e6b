"""Where questions to a model come from, and where its answers go: files and the terminal."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gpt2_tuning.data.row_files import check_columns, read_all_columns
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import write_text

Fields = tuple[str, ...]
"""The texts of one example: one, the two of a pair, or an instruction and its context."""
Answer = Callable[[Sequence[Fields]], list[dict[str, Any]]]


def answer_file(
    source: Path,
    output: Path | None,
    columns: Sequence[str],
    answer: Answer,
    optional: Sequence[str] = (),
) -> None:
    """Adds the model's answer to every row of a file, and writes the rows as JSON lines.

    Args:
        source: rows in any format that preparation reads.
        output: where the rows go, whole or not at all; None prints them.
        columns: those that hold the texts of an example.
        answer: from examples to what is added to their rows.
        optional: columns that follow, and may be missing or empty.

    Raises:
        UserError: a column or a text is missing, or `output` is `source` itself.
    """
    if output is not None and output.absolute() == source.absolute():
        raise UserError("--output would overwrite --input: give it another name")
    rows = read_all_columns(source)
    examples = []
    for number, row in enumerate(rows, start=1):
        check_columns(list(row), columns, f"{source.name}, row {number},")
        fields = tuple(row[name] for name in columns)
        if not all(isinstance(field, str) and field.strip() for field in fields):
            raise UserError(f"{source.name}, row {number}: {' or '.join(columns)} holds no text")
        examples.append((*fields, *(str(row.get(name) or "") for name in optional)))
    lines = [
        json.dumps({**row, **added}, ensure_ascii=False, default=str)
        for row, added in zip(rows, answer(examples), strict=True)
    ]
    if output is None:
        print("\n".join(lines))
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, "".join(line + "\n" for line in lines))
    print(f"{output}: {len(lines):,} rows answered")


def asked(prompts: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Fields]:
    """What is typed at the terminal, example by example, until an empty line or Ctrl-D.

    Args:
        prompts: the texts to ask for; an empty one ends.
        optional: those that follow, and may stay empty.
    """
    print("an empty line or Ctrl-D ends")
    while True:
        fields = []
        for prompt in (*prompts, *optional):
            try:
                text = input(f"{prompt}> ")
            except EOFError:
                print()
                return
            if not text.strip() and prompt in prompts:
                return
            fields.append(text)
        yield tuple(fields)
