"""The part of the page for a file of rows: it is brought, answered and taken away again."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from gpt2_tuning.chat import looks, row_files
from gpt2_tuning.chat.events_page import (
    ONE_AT_A_TIME,
    PRIVATE,
    choice_of,
    mistakes_said,
    of_outputs,
)
from gpt2_tuning.chat.opened import TUNED, OpenRun
from gpt2_tuning.chat.writing_page import Settings

LEFT_OUT = "(none)"
PREVIEWED = 5
"""Rows that are shown once they are answered."""


def make_rows(run: OpenRun, settings: Settings | None, workplace: Path) -> None:
    """Makes the part.

    Args:
        run: by whose template or texts the rows are read.
        settings: of a run that writes.
        workplace: a directory for answers, which is removed when the page is closed.
    """
    gr.Markdown(
        "JSON lines, JSON, CSV, TSV, Parquet or .xlsx; the answers come as JSON lines, each row "
        "with its own columns.",
        elem_classes="quiet",
    )
    source = gr.File(label="Rows", elem_classes="at-rows", height=120)
    with gr.Row():
        voice = choice_of(list(run.voices), "Answered by", TUNED, "rows-voice")
        columns = [
            gr.Dropdown(
                [], label=f"Column of the {name}", elem_classes=f"at-column-{name}", visible=False
            )
            for name in row_files.fields_of(run)
        ]
    with gr.Row():
        ask = gr.Button(
            "Answer all rows", variant="primary", elem_classes="at-ask-rows", min_width=100
        )
        stop = gr.Button("Stop", elem_classes="at-stop-rows", min_width=100)
    status = gr.Markdown(elem_classes="at-rows-status")
    # Always there: what appears with the last of several quick updates may never be shown.
    download = gr.DownloadButton(
        "Download the answers", interactive=False, elem_classes="at-download"
    )
    table = gr.HTML(elem_classes="at-preview")

    source.change(columns_finder(run), source, columns, **PRIVATE)
    inputs = [source, voice, *columns, *(settings.fields if settings else [])]
    outputs = [status, download, table]
    answered = answerer(run, settings, workplace)
    event = ask.click(answered, inputs, outputs, **ONE_AT_A_TIME, **PRIVATE)
    stop.click(None, cancels=event, **PRIVATE)


def columns_finder(run: OpenRun) -> Callable[[str | None], Any]:
    """What offers the columns of a file that was brought, for each text of a row."""
    fields = row_files.fields_of(run)

    def looked_at(source: str | None) -> Any:
        if source is None:
            return of_outputs([gr.update(visible=False) for _ in fields])
        with mistakes_said():
            found = row_files.columns_of(run, Path(source))
        updates = [
            gr.update(
                choices=[*([LEFT_OUT] if optional else []), *found.found],
                value=found.chosen[name] or (LEFT_OUT if optional else None),
                visible=True,
            )
            for name, optional in fields.items()
        ]
        return of_outputs(updates)

    return looked_at


def answerer(
    run: OpenRun, settings: Settings | None, workplace: Path
) -> Callable[..., Iterator[list[Any]]]:
    """What answers a file's rows, says how far it is, and at last shows the first of them."""
    fields = row_files.fields_of(run)

    def answered(source: str | None, voice: str, *values: Any) -> Iterator[list[Any]]:
        if source is None:
            raise gr.Error("there is no file yet", print_exception=False)
        names = [None if name == LEFT_OUT else name for name in values[: len(fields)]]
        place = Path(tempfile.mkdtemp(dir=workplace))
        target = place / f"{Path(source).stem}-answered.jsonl"
        with mistakes_said():
            generation = settings.generation(values[len(fields) :]) if settings else None
            own = row_files.columns_of(run, Path(source)).found
            none_yet = [gr.update(value=None, interactive=False), ""]
            asked = (run, run.voice(voice), Path(source), target, names, generation)
            for done, total in row_files.answer_rows(*asked):
                yield [f"{done:,} of {total:,} rows answered", *none_yet]
        yield [
            f"{total:,} rows answered",
            gr.update(value=str(target), interactive=True),
            looks.table(row_files.first_rows(target, own, PREVIEWED)),
        ]

    return answered
