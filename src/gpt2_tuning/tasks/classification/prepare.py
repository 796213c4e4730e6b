"""Prepares a data set of single texts with a class each: rows in, TFRecords out.

gpt2-tuning prepare classification
gpt2-tuning prepare classification --train_file rows.csv --label_column topic
"""

import dataclasses
from collections.abc import Sequence

from gpt2_tuning import cli, paths
from gpt2_tuning.options.preparation import PrepareOptions

TASK = "classification"
DEFAULT_DATASET = "dair-ai/emotion"
USUAL_NAMES = {
    "text_column": ("text", "sentence", "content", "body"),
    "label_column": ("label",),
}
SAMPLE_FILE = paths.ASSETS / "emotion_sample.jsonl"


@dataclasses.dataclass(frozen=True)
class Options(PrepareOptions):
    """Prepare texts for classification: by default dair-ai/emotion from the Hugging Face Hub."""

    seq_len: int = 128
    """Longest example, in tokens: longer ones are cut. At most 1024, or with
    --base as many as it has positions."""
    text_column: str | None = None
    """Column that holds the text. Default: `text`, `sentence`, `content` or `body`."""
    label_column: str | None = None
    """Column that holds the class, as a name or an integer. Default: `label`."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        super().check()
        self.check_apart("text_column", "label_column")


def prepare(options: Options) -> None:
    """Reads, tokenises and writes the data set, then says what was found."""
    from gpt2_tuning.data.examples import text_example
    from gpt2_tuning.data.opened_rows import open_rows
    from gpt2_tuning.data.preparation import checked_output_dir, prepare_labelled, with_room
    from gpt2_tuning.data.sources import read_source
    from gpt2_tuning.formats.base_files import find_base

    base = find_base(options.base)
    options = with_room(options, base)
    checked_output_dir(TASK, options, base)
    opened = open_rows(options, DEFAULT_DATASET, SAMPLE_FILE)
    options = opened.with_usual_columns(options, USUAL_NAMES)
    options.check()  # again, with the columns that were not given
    columns, label_column = [options.text_column or ""], options.label_column or ""
    source = read_source(opened, options, base.tokenizer.end_text, columns, label_column)
    prepare_labelled(TASK, options, base, source, columns, label_column, text_example)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the step; returns its exit code. `program` is what --help calls it."""
    return cli.run(Options, prepare, argv, program, tensorflow=False)
