"""Prepares plain text, every token of which is learnt: how a base model gets to know a domain.

gpt2-tuning prepare text --train_file book.txt
gpt2-tuning prepare text --train_file a.txt b.txt --separator '<|endoftext|>'
gpt2-tuning prepare text --dataset user/name --text_column body
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from gpt2_tuning import cli, paths
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.known import MAX_SEQ_LEN
from gpt2_tuning.needs import Needs
from gpt2_tuning.options import effects
from gpt2_tuning.options.preparation import DatasetOptions

if TYPE_CHECKING:
    from gpt2_tuning.data.examples import Dropped, Example

TASK = "text"
SAMPLE_FILE = paths.ASSETS / "emotion_sample.jsonl"
USUAL_NAMES = {"text_column": ("text", "content", "body")}
SHORTEST = 3
WRITTEN_END_ADVICE = (
    "where it stands between documents, give --separator '{end_text}'; elsewhere remove it"
)
"""What to do where texts hold the letters of the end of text."""


@dataclasses.dataclass(frozen=True)
class Options(DatasetOptions):
    """Prepare plain text: files, or a column of a data set on the Hugging Face Hub."""

    NEEDS: ClassVar[Needs] = effects.PREPARE_TEXT

    seq_len: int = MAX_SEQ_LEN
    """Longest example, in tokens: longer documents become several. From 3 to 1024."""
    train_file: tuple[Path, ...] = ()
    """Text files (.txt), each one document, or files with a document a row (.jsonl, .csv ...); a
    folder stands for the .txt files in it, a pattern such as 'part-*.txt' for those it fits."""
    validation_file: tuple[Path, ...] = ()
    """The same for validation; without them a tenth of the training text is set aside."""
    test_file: tuple[Path, ...] = ()
    """The same for testing; without them a tenth of the training text is set aside."""
    text_column: str | None = None
    """Column that holds the documents, where there are columns. Default: `text`, `content` or
    `body`."""
    separator: str | None = None
    """What stands between the documents of one text; \\n in it is a line break."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        super().check()
        if not self.dataset and not self.train_file:
            raise UserError("give text to prepare: --train_file FILE.txt, or --dataset NAME")


def prepare(options: Options) -> None:
    """Reads, tokenises and writes the data set, then says what was found."""
    from gpt2_tuning.data.columns import unix_newlines
    from gpt2_tuning.data.documents import has_columns, read_documents
    from gpt2_tuning.data.opened_rows import open_rows
    from gpt2_tuning.data.pieces import document_examples
    from gpt2_tuning.data.preparation import checked_output_dir, prepare_source, with_room
    from gpt2_tuning.data.words import WordTokenizer
    from gpt2_tuning.formats.base_files import find_base

    base = find_base(options.base)
    options = with_room(options, base)
    checked_output_dir(TASK, options, base, SHORTEST)
    opened = open_rows(options, options.dataset or "", SAMPLE_FILE)
    separator = options.separator and unix_newlines(options.separator.replace("\\n", "\n"))
    if has_columns(opened):
        options = opened.with_usual_columns(options, USUAL_NAMES)
    source = read_documents(
        opened, options, base.tokenizer.end_text, options.text_column or "", separator
    )
    tokenizer = WordTokenizer(base.tokenizer)

    def rows(split: str) -> "Iterator[Example | Dropped | None]":
        return document_examples(source.splits[split], tokenizer, options.seq_len)

    prepare_source(
        TASK,
        options,
        base,
        source,
        rows,
        columns=["prompt_length"],
        written_end_advice=WRITTEN_END_ADVICE,
    )


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the step; returns its exit code. `program` is what --help calls it."""
    return cli.run(Options, prepare, argv, program, tensorflow=False)
