"""The part of the page for a run that labels: texts in, bars and coloured tokens out."""

from typing import Any

import gradio as gr

from gpt2_tuning.chat import labelling, looks
from gpt2_tuning.chat.events_page import ONE_AT_A_TIME, PRIVATE, choice_of, mistakes_said
from gpt2_tuning.chat.opened import TUNED, OpenRun


def make_labelling(run: OpenRun) -> None:
    """Makes the part."""
    voice = choice_of(list(run.voices), "Labelled by", TUNED, "left-voice")
    fields = [
        gr.Textbox(
            label=name.capitalize(),
            lines=3,
            max_lines=12,
            elem_classes=f"at-{name}",
            autofocus=not at,
        )
        for at, name in enumerate(run.texts)
    ]
    ask = gr.Button("Label", variant="primary", elem_classes="at-ask")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=280):
            bars = gr.HTML(elem_classes="at-bars", container=True, padding=False, visible=False)
        with gr.Column(min_width=280):
            tokens = gr.HTML(elem_classes="at-tokens", container=True, padding=False, visible=False)
            of_class = gr.Dropdown(
                [], label="Coloured for", elem_classes="at-of-class", visible=False
            )

    def labelled(voice: str, *texts: str) -> list[Any]:
        with mistakes_said():
            found = labelling.label(run, run.voice(voice), texts)
            shares = labelling.shares(run, run.voice(voice), texts, found.label)
        classes = gr.update(choices=list(found.probabilities), value=found.label, visible=True)
        parts = (looks.bars(found.probabilities), looks.tokens(shares, found.label))
        return [*(gr.update(value=part, visible=True) for part in parts), classes]

    def coloured(voice: str, name: str, *texts: str) -> str:
        with mistakes_said():
            shares = labelling.shares(run, run.voice(voice), texts, name)
        return looks.tokens(shares, name)

    outputs = [bars, tokens, of_class]
    for happens in (ask.click, *(field.submit for field in fields)):
        happens(labelled, [voice, *fields], outputs, **ONE_AT_A_TIME, **PRIVATE)
    # `input`, not `change`: that a label was found is no wish to see it again.
    of_class.input(coloured, [voice, of_class, *fields], tokens, **ONE_AT_A_TIME, **PRIVATE)
