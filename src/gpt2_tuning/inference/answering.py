"""Where questions to a model come from, and how a file of them is answered: part by part."""

import contextlib
import dataclasses
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from gpt2_tuning.data.column_names import check_columns, naming_flags
from gpt2_tuning.data.columns import unix_newlines
from gpt2_tuning.data.conversations import ConversationText, to_answer
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.row_files import check_file, read_all_columns
from gpt2_tuning.data.tokenizer import check_encodable
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference import answer_file, answer_sinks
from gpt2_tuning.inference.answer_digest import answer_digest, directories_of_run
from gpt2_tuning.inference.json_lines import json_line, without_nan
from gpt2_tuning.options.testing import TestOptions
from gpt2_tuning.progress_bar import ProgressBar

Fields = tuple[str, ...]
"""The texts of one example: one, the two of a pair, or an instruction and its context."""
Answer = Callable[[Sequence[Fields], int], list[dict[str, Any]]]
"""From some examples, and the number of the file's examples before them, to what is added."""

ERROR = "error"
"""The column that says why a row has no answer."""
LINE_SECONDS = 30.0
"""Between two lines of progress where no terminal can show a moving one."""


@dataclasses.dataclass(frozen=True)
class InputColumns:
    """Which columns of --input hold an example's texts; it is also what people are asked for."""

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()
    conversations: bool = False
    """Whether the column that is needed holds conversations."""


@dataclasses.dataclass(frozen=True)
class FileToAnswer:
    """A file of questions that were found usable, and the place of the answers, which is open."""

    source: Path
    rows: list[dict[str, Any]]
    examples: list[Fields]
    """An empty one for a row that is `unusable`."""
    unusable: dict[int, str]
    """Why rows have no answer, by their place in the file, from 0."""
    names: dict[str, str]
    """What an answer's columns are called in the file."""
    sink: answer_sinks.Sink
    rows_at_once: int
    strict: bool
    """Whether a row without an answer is a mistake that ends all."""

    def refuse(self, place: int, reason: str) -> None:
        """A row has no answer. Raises UserError where none may be without."""
        if self.strict:
            raise UserError(reason)
        self.examples[place], self.unusable[place] = (), reason

    def answer(self, answer: Answer) -> None:
        """Adds the answers to the rows and writes these as JSON lines, part by part.

        Raises:
            UserError: the rows cannot be written, or `answer` raises it.
        """
        with progress_to(len(self.rows), self.sink) as advance:
            for done in self.parts(answer):
                advance(done)
        self.sink.finish()

    def parts(self, answer: Answer) -> Iterator[int]:
        """As `answer`, but for the sink's end; yields after each part how many rows are written."""
        said_null, error = False, self.name_of_error()
        for first in range(self.sink.done, len(self.rows), self.rows_at_once):
            rows = self.rows[first : first + self.rows_at_once]
            added = self.added(answer, range(first, first + len(rows)), error)
            lines = [json_line(row, own) for row, own in zip(rows, added, strict=True)]
            if not said_null and any(without_nan(row) != row for row in rows):
                said_null = True
                note(f"{self.source.name} holds NaN or infinite numbers: written as null")
            self.sink.append(lines)
            yield self.sink.done

    def name_of_error(self) -> str:
        """The column that says why a row has no answer; that there are some is said."""
        if not self.unusable:
            return ERROR
        name = free_names(self.rows, [ERROR], self.source.name)[ERROR]
        note(
            f"{len(self.unusable):,} of {len(self.rows):,} rows have no answer but null, and why in"
            f" {name!r}; with --strict the first would end all"
        )
        return name

    def added(self, answer: Answer, places: range, error: str) -> Iterator[dict[str, Any]]:
        """What is added to the rows at these places: nulls, and `error`, where there is no answer.

        A row's number decides on what is drawn for it, so those between two of them are answered
        together.
        """
        for usable, group in itertools.groupby(places, lambda place: place not in self.unusable):
            of_group = list(group)
            if not usable:
                nothing = dict.fromkeys(self.names.values())
                yield from ({**nothing, error: self.unusable[place]} for place in of_group)
                continue
            first, last = of_group[0], of_group[-1]
            for found in answer(self.examples[first : last + 1], first):
                yield {self.names[name]: value for name, value in found.items()}


@contextlib.contextmanager
def file_to_answer(
    options: TestOptions,
    run_dir: Path,
    metadata: Metadata,
    columns: InputColumns,
    added: Sequence[str],
    batches_at_once: int,
) -> Iterator[FileToAnswer | None]:
    """Yields the file of --input once it is sure that it can be answered; None without --input.

    To be entered before the model is made, so that no mistake shows after long work alone.

    Args:
        options: the flags.
        run_dir: the run that answers.
        metadata: the run's copy.
        columns: those that hold the texts of an example.
        added: what an answer's columns are called, unless the file has such columns itself.
        batches_at_once: how many batches make a part, in which rows of like length go together.

    Raises:
        UserError: a column or a text is missing or cannot be read, or --output cannot be written.
        Stopped: the block was interrupted; it says how to go on.
    """
    if options.input is None:
        yield None
        return
    source, target = options.input, None
    check_file(source)
    if options.output is not None:
        kept = directories_of_run(options, run_dir, metadata)
        target = answer_file.check_output(options.output, source, kept)
    notes: list[str] = []
    rows = read_all_columns(source, notes)
    with naming_flags(options):
        found = list(dict.fromkeys(name for row in rows for name in row))
        check_columns(found, unusual(columns, options), source.name)
        check_columns(found, columns.needed, source.name)
        examples, unusable = usable_examples(rows, columns, source.name, options.strict)
    for line in notes:
        note(line)
    at_once = batches_at_once * options.batch_size
    digest = answer_digest(options, source, run_dir) if target else ""
    with answer_file.opened(target, digest, options.resume, len(rows), at_once) as sink:
        names = free_names(rows, added, source.name)
        yield FileToAnswer(source, rows, examples, unusable, names, sink, at_once, options.strict)


def unusual(columns: InputColumns, options: TestOptions) -> list[str]:
    """Optional columns by other names than the flags' defaults: somebody expects them."""
    usual = {field.default for field in dataclasses.fields(options)}
    return [name for name in columns.optional if name not in usual]


def usable_examples(
    rows: Sequence[dict[str, Any]], columns: InputColumns, where: str, strict: bool
) -> tuple[list[Fields], dict[int, str]]:
    """The texts of each row, and by place from 0 why a row has none, which is then empty.

    Raises:
        UserError: no row has any, or with `strict` one has none.
    """
    examples: list[Fields] = []
    unusable: dict[int, str] = {}
    for place, row in enumerate(rows):
        try:
            examples.append(example_of(row, columns, f"{where}, row {place + 1}"))
        except UserError as error:
            if strict:
                raise
            examples.append(())
            unusable[place] = str(error)
    if unusable and len(unusable) == len(rows):
        raise UserError(unusable[0])
    return examples, unusable


def example_of(row: dict[str, Any], columns: InputColumns, where: str) -> Fields:
    """The texts of a row. Raises UserError, saying where, when one is missing or not readable."""
    check_columns(list(row), columns.needed, f"{where},")
    if columns.conversations:
        return (to_answer(row[columns.needed[0]], where),)
    fields = [row[name] for name in columns.needed]
    if not all(isinstance(field, str) and field.strip() for field in fields):
        raise UserError(f"{where}: {' or '.join(columns.needed)} holds no text")
    others = (without_nan(row.get(name)) for name in columns.optional)
    return readable((*fields, *(str(other or "") for other in others)), where)


def readable(fields: Sequence[str], where: str) -> Fields:
    """Texts as the model is to read them: with the newlines of its training, not Windows's.

    Raises:
        UserError: a text holds half a surrogate pair; it says where.
    """
    for field in fields:
        try:
            check_encodable(field)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
    return tuple(
        field if isinstance(field, ConversationText) else unix_newlines(field) for field in fields
    )


def free_names(rows: Sequence[dict[str, Any]], added: Sequence[str], where: str) -> dict[str, str]:
    """What the columns added to rows are called: `name`, or `name_2` and so on where one is taken.

    All get the same number, and it is said.
    """
    taken: set[str] = set().union(*rows)
    names, number = {name: name for name in added}, 1
    while not taken.isdisjoint(names.values()):
        number += 1
        names = {name: f"{name}_{number}" for name in added}
    if number > 1:
        own = next(name for name in added if name in taken)
        ours = " and ".join(map(repr, names.values()))
        note(f"{where} has a column {own!r} of its own: the model's answers are in {ours}")
    return names


def note(line: str) -> None:
    """Says something beside the answers."""
    print(f"note: {line}", file=sys.stderr)


@contextlib.contextmanager
def progress_to(total: int, sink: answer_sinks.Sink) -> Iterator[Callable[[int], None]]:
    """Yields a function that shows how many rows are done: a moving line, or one now and then."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    crossing = isinstance(sink, answer_sinks.Printed) and sys.stdout.isatty()
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = ProgressBar(
        TextColumn("answering"),
        *columns,
        console=console,
        transient=True,
        disable=crossing or not console.is_terminal,
    )
    task = bar.add_task("", total=total, completed=sink.done)
    begun, started = sink.done, time.monotonic()
    said = started

    def advance(done: int) -> None:
        nonlocal said
        bar.update(task, completed=done)
        now = time.monotonic()
        if not console.is_terminal and now - said >= LINE_SECONDS:
            said = now
            left = round((now - started) / (done - begun) * (total - done))
            time_left = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left"
            console.print(f"{done:,} of {total:,} rows answered  {time_left}", markup=False)

    with bar:
        yield advance


def asked(columns: InputColumns) -> Iterator[Fields]:
    """What is typed at the terminal, example by example, until an empty line or Ctrl-D.

    An empty text ends, unless its column is optional.
    """
    print("an empty line or Ctrl-D ends")
    while True:
        fields = []
        for name in (*columns.needed, *columns.optional):
            try:
                text = input(f"{name}> ")
            except EOFError:
                print()
                return
            if not text.strip() and name in columns.needed:
                return
            fields.append(text)
        yield readable(fields, "the text that was typed")
