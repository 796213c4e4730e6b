"""Prepares a data set of instructions, with or without a context, and their responses.

gpt2-tuning prepare instruction
gpt2-tuning prepare instruction --dataset tatsu-lab/alpaca --template alpaca
gpt2-tuning prepare instruction --train_file rows.csv --response_column answer --show 3
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gpt2_tuning import cli, paths
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.known import MAX_SEQ_LEN
from gpt2_tuning.options.preparation import PrepareOptions
from gpt2_tuning.options.ranges import require

if TYPE_CHECKING:
    from gpt2_tuning.data.examples import Dropped, Example
    from gpt2_tuning.data.prompts import Template
    from gpt2_tuning.data.sources import OpenedRows, Source
    from gpt2_tuning.data.words import WordTokenizer

TASK = "instruction"
DEFAULT_DATASET = "databricks/databricks-dolly-15k"
SAMPLE_FILE = paths.ASSETS / "instruction_sample.jsonl"
USUAL_NAMES = {
    "instruction": ("instruction", "prompt", "question"),
    "context": ("context", "input"),
    "response": ("response", "output", "completion", "answer"),
}
"""What Dolly, Alpaca and others call the columns."""
PLAIN_NAMES = ("instruction", "context", "input", "response", "output")
"""Those of Dolly and Alpaca, which are not worth a line."""


@dataclasses.dataclass(frozen=True)
class Options(PrepareOptions):
    """Prepare instructions: by default databricks/databricks-dolly-15k from the Hub."""

    seq_len: int = MAX_SEQ_LEN
    """Longest example, in tokens, at most 1024: longer ones lose the end of their context.
    Where that is not enough the row is dropped."""
    instruction_column: str | None = None
    """Column that holds the instruction. Default: `instruction`, `prompt` or `question`."""
    context_column: str | None = None
    """Column that holds what the instruction is about. Default: `context` or `input`, if any."""
    response_column: str | None = None
    """Column that holds the response. Default: `response`, `output`, `completion` or `answer`."""
    template: str = "dolly"
    """dolly, alpaca, or a text file with {instruction}, {context} and, at its end, {response}.
    What stands in it between {?context} and {/context} is left out where there is no context."""
    show: int = 0
    """Print this many prepared examples with prompt, supervised and padding tokens apart."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        super().check()
        require(self.show >= 0, "show", "0 or more", self)
        self.check_apart("instruction_column", "context_column", "response_column")


@dataclasses.dataclass(frozen=True)
class Columns:
    """What the data set calls the fields."""

    instruction: str
    context: str | None
    response: str

    @property
    def prompt(self) -> list[str]:
        """The columns of the prompt."""
        return [self.instruction, *([self.context] if self.context else [])]


def prepare(options: Options) -> None:
    """Reads, tokenises and writes the data set, then says what was found."""
    from gpt2_tuning.data.preparation import checked_output_dir, prepare_source
    from gpt2_tuning.data.preview import show_examples
    from gpt2_tuning.data.prompts import load_template
    from gpt2_tuning.data.sources import open_rows, read_source
    from gpt2_tuning.data.words import WordTokenizer
    from gpt2_tuning.formats.base_files import find_base

    base = find_base(options.base)
    output_dir = checked_output_dir(TASK, options, base)
    template = load_template(options.template)
    opened = open_rows(options, DEFAULT_DATASET, SAMPLE_FILE)
    columns = choose_columns(options, template, opened)
    # Rows with the same prompt stay on one side of a split, whatever their responses.
    source = read_source(
        opened,
        options,
        base.tokenizer.end_text,
        [*columns.prompt, columns.response],
        group_columns=columns.prompt,
    )
    rows = functools.partial(
        examples,
        source=source,
        columns=columns,
        template=template,
        seq_len=options.seq_len,
        tokenizer=WordTokenizer(base.tokenizer),
    )
    metadata = prepare_source(
        TASK,
        options,
        base,
        source,
        rows,
        columns=["prompt_length"],
        template=template.to_metadata(),
    )
    show_examples(output_dir, metadata, options.show)


def choose_columns(options: Options, template: "Template", opened: "OpenedRows") -> Columns:
    """The columns that the flags name, or those of the usual names.

    Raises:
        UserError: there is no such column, or one is named twice.
    """
    from gpt2_tuning.data.column_names import (
        check_columns,
        naming_flags,
        notes_on_columns,
        usual_column,
    )

    found = opened.column_names()
    chosen: dict[str, str | None] = {}
    for field, usual in USUAL_NAMES.items():
        name = getattr(options, f"{field}_column")
        if name is not None:
            with naming_flags(options):
                check_columns(found, [name], opened.name)
        chosen[field] = name or usual_column(found, usual)
        if chosen[field] is None and field != "context":
            *others, last = map(repr, usual)
            raise UserError(
                f"{opened.name} has no column {', '.join(others)} or {last}; its columns:"
                f" {', '.join(found)}: name one with --{field}_column"
            )
    odd = {
        f"{field}_column": name
        for field, name in chosen.items()
        if name and not getattr(options, f"{field}_column") and name not in PLAIN_NAMES
    }
    opened.notes.extend(notes_on_columns(odd))
    if chosen["context"] and not template.has_context:
        print(
            f"template {template.name} has no {{context}}: column {chosen['context']} is not used"
        )
        chosen["context"] = None
    named = [name for name in chosen.values() if name]
    if len(set(named)) < len(named):
        raise UserError(f"instruction, context and response need a column each, not {named}")
    return Columns(chosen["instruction"] or "", chosen["context"], chosen["response"] or "")


def examples(
    split: str,
    source: "Source",
    columns: Columns,
    template: "Template",
    seq_len: int,
    tokenizer: "WordTokenizer",
) -> "Iterator[Example | Dropped]":
    """One example for each row, or the reason why there is none."""
    from gpt2_tuning.data.prompts import instruction_examples

    for batch in source.splits[split].batches():
        responses = [text or "" for text in batch[columns.response]]
        yield from instruction_examples(
            [text or "" for text in batch[columns.instruction]],
            batch[columns.context] if columns.context else [""] * len(responses),
            responses,
            template,
            seq_len,
            tokenizer,
        )


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the step; returns its exit code. `program` is what --help calls it."""
    return cli.run(Options, prepare, argv, program, tensorflow=False)
