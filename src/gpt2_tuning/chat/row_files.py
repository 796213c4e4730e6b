"""A file of rows that somebody brings, and the file of the same rows with their answers."""

import contextlib
import dataclasses
import itertools
import json
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from gpt2_tuning.chat.labelling import labels
from gpt2_tuning.chat.opened import OpenRun, Voice
from gpt2_tuning.chat.writing import asked_for, converses
from gpt2_tuning.data.column_names import check_columns, usual_column
from gpt2_tuning.data.conversations import COLUMNS
from gpt2_tuning.data.row_files import column_names, read_all_columns
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import BINARY
from gpt2_tuning.inference import labelling, responding
from gpt2_tuning.inference.answer_sinks import Stream
from gpt2_tuning.inference.answering import (
    Answer,
    Fields,
    FileToAnswer,
    InputColumns,
    free_names,
    usable_examples,
)
from gpt2_tuning.inference.generation import prompt_ids
from gpt2_tuning.inference.generation_settings import Generation

AT_ONCE = {True: 64, False: 8}
"""Rows between two signs of life, of what labels and of what writes."""


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a file, and which of them a field of an example is taken from."""

    found: list[str]
    chosen: dict[str, str | None]
    """By field; None of one that is left out."""


def fields_of(run: OpenRun) -> dict[str, bool]:
    """What an example consists of, and whether it may be left out."""
    return dict.fromkeys(run.texts, False) if run.labels else asked_for(run)


def columns_of(run: OpenRun, source: Path) -> Columns:
    """The columns of a file, with a first guess at what each is for.

    Raises:
        UserError: the file cannot be read.
    """
    found = column_names(source, most=100)
    chosen: dict[str, str | None] = {}
    for field, optional in fields_of(run).items():
        usual = (*COLUMNS, field) if converses(run) else (field,)
        named = usual_column(found, usual)
        chosen[field] = named or (None if optional or chosen else found[0])
    return Columns(found, chosen)


def answer_rows(
    run: OpenRun,
    voice: Voice,
    source: Path,
    target: Path,
    columns: Sequence[str | None],
    generation: Generation | None = None,
) -> Generator[tuple[int, int], None, None]:
    """Writes the rows of a file with a voice's answers as JSON lines.

    A row that cannot be answered has null, and why in a column `error`. What leaves the loop early
    leaves no file.

    Args:
        run: by whose template, or length of texts, the rows are read.
        voice: what answers.
        source: the rows, in any format that preparation reads.
        target: where they go.
        columns: one for each of `fields_of`; None leaves out what may be left out.
        generation: of a language model, how it writes.

    Yields:
        How many rows are done, and how many there are.

    Raises:
        UserError: the file or a column cannot be read, or no row can be answered.
    """
    wanted = input_columns(run, columns)
    rows = read_all_columns(source)
    found = list(dict.fromkeys(name for row in rows for name in row))
    check_columns(found, (*wanted.needed, *wanted.optional), source.name)
    examples, unusable = usable_examples(rows, wanted, source.name, strict=False)
    names = free_names(rows, labelling.ADDED if run.labels else responding.ADDED, source.name)
    at_once = AT_ONCE[run.labels]
    with written(target) as sink:
        file = FileToAnswer(source, rows, examples, unusable, names, sink, at_once, strict=False)
        answer = labeller(run, voice) if run.labels else writer(run, voice, file, generation)
        yield 0, len(rows)
        for done in file.parts(answer):
            yield done, len(rows)


@contextlib.contextmanager
def written(target: Path) -> Iterator[Stream]:
    """Yields what writes lines into a file, which is removed where the block does not end well."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | BINARY, 0o600)
    try:
        yield Stream(descriptor, target)
    except BaseException:
        target.unlink()
        raise
    finally:
        os.close(descriptor)


def input_columns(run: OpenRun, columns: Sequence[str | None]) -> InputColumns:
    """Where in a file the fields of an example are. Raises UserError where one is not said."""
    needed: list[str] = []
    others: list[str] = []
    for (field, may_lack), column in zip(fields_of(run).items(), columns, strict=True):
        if column:
            (others if may_lack else needed).append(column)
        elif not may_lack:
            raise UserError(f"no column is chosen for the {field}")
    conversations = converses(run) and usual_column(needed, COLUMNS) is not None
    return InputColumns(tuple(needed), tuple(others), conversations)


def labeller(run: OpenRun, voice: Voice) -> Answer:
    """What labels some of the examples of a file."""

    def answer(examples: Sequence[Fields], first_row: int) -> list[dict[str, Any]]:
        found = labels(run, voice, examples, first_row)
        return [{"prediction": one.label, "probabilities": one.probabilities} for one in found]

    return answer


def writer(run: OpenRun, voice: Voice, file: FileToAnswer, generation: Generation | None) -> Answer:
    """What writes to some of the examples of a file; prompts that are too long are refused."""
    responder = dataclasses.replace(run.responder(voice), generation=generation)
    for place, fields in enumerate(file.examples):
        if not fields:
            continue
        try:
            prompt = responder.prompt(fields)
            settings = [responder.settings()]
            prompt_ids(responder.model, [prompt], settings, responder.model.tokenizer, place)
        except UserError as error:
            file.refuse(place, f"{file.source.name}: {error}")

    def answer(examples: Sequence[Fields], first_row: int) -> list[dict[str, Any]]:
        prompts = [responder.prompt(fields) for fields in examples]
        choices = [voice.choice] * len(prompts)
        texts = responder.continue_prompts(prompts, first_row, choices)
        return [{"generated": text} for text in texts]

    return answer


def first_rows(answers: Path, own: Sequence[str], most: int) -> list[dict[str, Any]]:
    """The first rows of a file of answers; what was added to their `own` columns comes first."""
    with answers.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in itertools.islice(lines, most)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    names.sort(key=lambda name: name in own)
    return [{name: row.get(name) for name in names} for row in rows]
