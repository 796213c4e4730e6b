"""Labels for people and for files: printed, asked for one after another, or row by row."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from gpt2_tuning.data.row_files import check_columns, read_all_columns
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import write_text
from gpt2_tuning.inference.classification import Prediction

Fields = tuple[str, ...]
"""The texts of one example: one, or the two of a pair."""
Predict = Callable[[Sequence[Fields]], list[Prediction]]


def print_predictions(examples: Sequence[Fields], predict: Predict) -> None:
    """Prints each example with its label and every class's probability, the likeliest first."""
    for fields, prediction in zip(examples, predict(examples), strict=True):
        ranked = sorted(prediction.probabilities.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{name} {share:.3f}" for name, share in ranked)
        print(f"{' | '.join(fields)}\n  {prediction.label}  ({shares})")


def label_file(source: Path, output: Path | None, columns: Sequence[str], predict: Predict) -> None:
    """Adds `prediction` and `probabilities` to every row of a file, as JSON lines.

    Args:
        source: rows in any format that preparation reads.
        output: where the rows go, whole or not at all; None prints them.
        columns: those that hold the texts of an example.
        predict: what labels them.

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
        examples.append(fields)
    lines = [
        json.dumps(
            {**row, "prediction": found.label, "probabilities": found.probabilities},
            ensure_ascii=False,
        )
        for row, found in zip(rows, predict(examples), strict=True)
    ]
    if output is None:
        print("\n".join(lines))
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, "".join(line + "\n" for line in lines))
    print(f"{output}: {len(lines):,} rows labelled")


def ask(prompts: Sequence[str], predict: Predict) -> None:
    """Labels what is typed at the terminal, until an empty line or Ctrl-D."""
    print("an empty line or Ctrl-D ends")
    while True:
        fields = []
        for prompt in prompts:
            try:
                text = input(f"{prompt}> ")
            except EOFError:
                print()
                return
            if not text.strip():
                return
            fields.append(text)
        print_predictions([tuple(fields)], predict)
