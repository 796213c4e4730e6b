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

if TYPE_CHECKING:
    from gpt2_tuning.data.base import Base
    from gpt2_tuning.data.examples import Dropped, Example
    from gpt2_tuning.data.metadata import Metadata
    from gpt2_tuning.data.opened_rows import OpenedRows
    from gpt2_tuning.data.prompts import Template
    from gpt2_tuning.data.sources import Source
    from gpt2_tuning.data.words import WordTokenizer

TASK = "instruction"
DEFAULT_DATASET = "databricks/databricks-dolly-15k"
SAMPLE_FILES = {
    "sample": paths.ASSETS / "instruction_sample.jsonl",
    "sample_conversations": paths.ASSETS / "conversation_sample.jsonl",
}
"""By what --dataset calls them."""
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
    messages_column: str | None = None
    """Column of conversations: lists of messages, each with role and content, or from and value.
    Default: `messages` or `conversations`, if any."""
    chat_template: str | None = None
    """How a conversation becomes one text: a file in the form of transformers, or a directory that
    has such a template. Default: that of --base, or else a plain one."""
    template: str = "dolly"
    """dolly, alpaca, or a text file with {instruction}, {context} and, at its end, {response}.
    What stands in it between {?context} and {/context} is left out where there is no context."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        super().check()
        names = ("instruction_column", "context_column", "response_column", "messages_column")
        self.check_apart(*names)
        if self.messages_column and any(getattr(self, name) for name in names[:3]):
            raise UserError("--messages_column goes without the columns of instructions")


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
    from gpt2_tuning.data.opened_rows import open_rows
    from gpt2_tuning.data.preparation import checked_output_dir, prepare_source, with_room
    from gpt2_tuning.data.prompts import load_template
    from gpt2_tuning.data.sources import read_source
    from gpt2_tuning.data.words import WordTokenizer
    from gpt2_tuning.formats.base_files import find_base

    base = find_base(options.base)
    options = with_room(options, base)
    checked_output_dir(TASK, options, base)
    template = load_template(options.template)
    opened = open_rows(options, DEFAULT_DATASET, SAMPLE_FILES)
    messages = conversation_column(options, opened)
    if messages:
        prepare_conversations(options, base, opened, messages)
        return
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
    prepare_source(
        TASK,
        options,
        base,
        source,
        rows,
        columns=["prompt_length"],
        template=template.to_metadata(),
    )


def conversation_column(options: Options, opened: "OpenedRows") -> str | None:
    """The column of conversations; None where rows are instructions.

    Raises:
        UserError: rows have both, or none, and no flag says which are meant.
    """
    from gpt2_tuning.data.column_names import notes_on_columns, usual_column
    from gpt2_tuning.data.conversations import COLUMNS

    named = (options.instruction_column, options.context_column, options.response_column)
    if options.messages_column or any(named):
        return options.messages_column
    found = opened.column_names()
    usual = usual_column(found, COLUMNS)
    both = (usual_column(found, USUAL_NAMES[name]) for name in ("instruction", "response"))
    if usual and all(both):
        raise UserError(
            f"{opened.name} has instructions and conversations ({usual!r}): name what is meant with"
            " --messages_column, or with --instruction_column and --response_column"
        )
    if options.chat_template and not usual:
        raise UserError(
            f"--chat_template needs conversations: {opened.name} has no column "
            f"{' or '.join(map(repr, COLUMNS))}; its columns: {', '.join(found)}: name one with "
            "--messages_column"
        )
    if usual and usual != COLUMNS[0]:
        opened.notes.extend(notes_on_columns({"messages_column": usual}))
    return usual


def prepare_conversations(
    options: Options, base: "Base", opened: "OpenedRows", column: str
) -> "Metadata":
    """Reads, tokenises and writes rows that are conversations."""
    from gpt2_tuning.data.chat_examples import conversation_examples
    from gpt2_tuning.data.chat_template import chat_template_of
    from gpt2_tuning.data.examples import LEARNT
    from gpt2_tuning.data.preparation import prepare_source
    from gpt2_tuning.data.sources import read_source

    if options.template != Options.template:
        raise UserError("--template is for instructions: conversations take --chat_template")
    template = chat_template_of(options.chat_template, base.directory, base.tokenizer)
    if template.letters:
        opened.notes.append(
            f"template {template.name} writes {', '.join(template.letters)}, which are no tokens of"
            " this base: they are learnt as letters"
        )
    opened = opened.with_conversations(column)
    source = read_source(opened, options, base.tokenizer.end_text, [column])

    def rows(split: str) -> "Iterator[Example | Dropped]":
        first = 0
        for batch in source.splits[split].batches():
            yield from conversation_examples(
                batch[column], template, options.seq_len, f"{opened.name}, {split}", first
            )
            first += len(batch[column])

    metadata = prepare_source(
        TASK,
        options,
        base,
        source,
        rows,
        columns=["prompt_length", LEARNT],
        template=template.to_metadata(),
    )
    cut = sum(split["truncated"] for split in metadata.splits.values())
    if cut:
        print(f"note: {cut:,} conversations are too long and lost their earliest exchanges")
    return metadata


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
