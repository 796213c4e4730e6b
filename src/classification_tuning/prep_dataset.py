"""Prepares a data set of single texts with a class each: rows in, TFRecords out.

python classification_tuning/prep_dataset.py
python classification_tuning/prep_dataset.py --train_file rows.csv --label_column topic
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from gpt2_tuning import cli, paths
from gpt2_tuning.errors import UserError
from gpt2_tuning.training.options import PrepareOptions

if TYPE_CHECKING:
    from gpt2_tuning.data.examples import Example
    from gpt2_tuning.data.sources import Source

TASK = "classification"
DEFAULT_DATASET = "dair-ai/emotion"
SAMPLE_FILE = paths.ASSETS / "emotion_sample.jsonl"


@dataclasses.dataclass(frozen=True)
class Options(PrepareOptions):
    """Prepare texts for classification: by default dair-ai/emotion from the Hugging Face Hub."""

    seq_len: int = 128
    """Longest example, in tokens: longer ones are cut. At most 1024."""
    text_column: str = "text"
    """Column that holds the text."""
    label_column: str = "label"
    """Column that holds the class, as a name or an integer."""


def prepare(options: Options) -> None:
    """Reads, tokenises and writes the data set, then says what was found."""
    from gpt2_tuning.data.metadata import Metadata
    from gpt2_tuning.data.report import report_table
    from gpt2_tuning.data.sources import load_source, split_origins
    from gpt2_tuning.data.tfrecords import check_output_dir, write_dataset
    from gpt2_tuning.data.tokenizer import GPT2Tokenizer

    if not 1 <= options.seq_len <= 1024:
        raise UserError(f"--seq_len must be between 1 and 1024, not {options.seq_len}")
    output_dir = options.output_dir or paths.dataset_dir(TASK)
    check_output_dir(output_dir)
    source = load_source(
        options,
        default_dataset=DEFAULT_DATASET,
        sample_file=SAMPLE_FILE,
        text_columns=[options.text_column],
        label_column=options.label_column,
    )
    header = Metadata(
        task=TASK,
        dataset={"name": source.name, "source": source.kind, "fingerprint": source.fingerprint},
        tokenizer_sha256=GPT2Tokenizer().sha256,
        seq_len=options.seq_len,
        columns=["label"],
        label_names=source.label_names,
        template=None,
        split_seed=options.seed,
        splits=split_origins(source),
    )
    rows = {split: examples(source, split, options) for split in source.splits}
    metadata = write_dataset(output_dir, header, rows)
    Console().print(report_table(metadata.splits))
    print(f"{output_dir} is ready. Next: python classification_tuning/train.py", end="")
    print(f" --dataset_dir {options.output_dir}" if options.output_dir else "")


def examples(source: "Source", split: str, options: Options) -> "Iterator[Example | None]":
    """One example for each row, or None where there is no text."""
    from gpt2_tuning.data.examples import text_example
    from gpt2_tuning.data.tokenizer import GPT2Tokenizer

    tokenizer = GPT2Tokenizer()
    for batch in source.splits[split].iter(1000):
        texts = [text or "" for text in batch[options.text_column]]
        encoded = tokenizer.encode_batch(texts)
        for text, ids, label in zip(texts, encoded, batch[options.label_column], strict=True):
            yield text_example(ids, label, options.seq_len) if text.strip() else None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    return cli.run(Options, prepare, argv)


if __name__ == "__main__":
    sys.exit(main())
