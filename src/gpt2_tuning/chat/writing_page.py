"""The part of the page for a run that writes: a form or a conversation, two voices side by side."""

import html
from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr

from gpt2_tuning.chat import looks, writing
from gpt2_tuning.chat.events_page import (
    NOTHING,
    ONE_AT_A_TIME,
    PRIVATE,
    choice_of,
    mistakes_said,
)
from gpt2_tuning.chat.opened import BASE, TUNED, OpenRun, Voice
from gpt2_tuning.inference.generation_settings import Generation

HINTS = {"instruction": "What is to be done", "context": "What it is about, if anything"}
MOST_TOKENS = 128
"""How long an answer is unless somebody says otherwise."""


class Settings(NamedTuple):
    """The fields that say how a voice writes."""

    names: tuple[str, ...]
    fields: list[gr.components.Component]
    """One for each name, and the stop strings at last."""

    def generation(self, values: tuple) -> Generation:
        """What the fields' values come to. Raises UserError where one is out of its range."""
        *numbers, stop = values
        return writing.generation_of(dict(zip(self.names, numbers, strict=True)), stop or "")


def settings_of(run: OpenRun) -> Settings:
    """Makes the fields."""
    positions = run.own.model.config.decoder.positions
    fields = {
        "temperature": gr.Slider(0, 2, 0, step=0.05, label="Temperature", info="0: the likeliest"),
        "top_k": gr.Number(0, precision=0, minimum=0, label="Top k", info="0: of all tokens"),
        "top_p": gr.Slider(0.05, 1, 1, step=0.05, label="Top p"),
        "max_new_tokens": gr.Slider(
            1, positions - 1, min(MOST_TOKENS, positions // 2), step=1, label="Most new tokens"
        ),
        "seed": gr.Number(0, precision=0, label="Seed", info="The same draws the same"),
    }
    stop = gr.Textbox(
        label="Stop before",
        lines=2,
        info="A text a line; \\n is a line's end",
        elem_classes="at-stop",
    )
    with gr.Accordion("Penalties and more", open=False):
        fields |= {
            "repetition_penalty": gr.Slider(0.5, 2, 1, step=0.05, label="Repetition penalty"),
            "presence_penalty": gr.Slider(-2, 2, 0, step=0.1, label="Presence penalty"),
            "frequency_penalty": gr.Slider(-2, 2, 0, step=0.1, label="Frequency penalty"),
            "no_repeat_ngram": gr.Number(
                0, precision=0, minimum=0, label="No n-gram twice", info="0: any may come again"
            ),
            "min_p": gr.Slider(0, 1, 0, step=0.01, label="Min p"),
        }
    return Settings(tuple(fields), [*fields.values(), stop])


def voices_of(run: OpenRun) -> tuple[gr.Dropdown, gr.Dropdown]:
    """Makes the choice of the two that answer."""
    names = list(run.voices)
    beside = BASE if BASE in names else NOTHING
    with gr.Row():
        left = choice_of(names, "Answered by", TUNED, "left-voice")
        right = choice_of([NOTHING, *names], "Beside it", beside, "right-voice")
    return left, right


def chosen(run: OpenRun, left: str, right: str) -> list[Voice]:
    """The voices that are to answer."""
    return [run.voice(name) for name in (left, right) if name != NOTHING]


def make_writing(run: OpenRun, settings: Settings) -> None:
    """Makes the part; `settings` are made elsewhere, since a file of rows goes by them too."""
    left, right = voices_of(run)
    if writing.converses(run):
        make_conversation(run, settings, left, right)
    else:
        make_form(run, settings, left, right)


def make_form(run: OpenRun, settings: Settings, left: gr.Dropdown, right: gr.Dropdown) -> None:
    """A field for each part of a prompt, and the answers to it."""
    asked = writing.asked_for(run)
    fields = [
        gr.Textbox(
            label=name.capitalize() + (", may be left out" if optional else ""),
            placeholder=HINTS.get(name, ""),
            lines=2,
            max_lines=12,
            elem_classes=f"at-{name}",
            autofocus=not optional,
        )
        for name, optional in asked.items()
    ]
    with gr.Row():
        ask = gr.Button("Answer", variant="primary", elem_classes="at-ask", min_width=100)
        stop = gr.Button("Stop", elem_classes="at-stop-writing", min_width=100)
    with gr.Row(equal_height=True):
        outputs = [answer_box(TUNED, "left"), answer_box(BASE, "right", right.value != NOTHING)]

    def answered(left: str, right: str, *values: Any) -> Iterator[list]:
        fields, others = values[: len(asked)], values[len(asked) :]
        with mistakes_said():
            voices = chosen(run, left, right)
            generation = settings.generation(others)
            for texts in writing.answers(run, voices, fields, generation):
                yield shown([left, right], texts)

    inputs = [left, right, *fields, *settings.fields]
    events = [
        happens(answered, inputs, outputs, **ONE_AT_A_TIME, **PRIVATE)
        for happens in (ask.click, *(field.submit for field in fields))
    ]
    stop.click(None, cancels=events, **PRIVATE)
    right.change(lambda name: gr.update(visible=name != NOTHING), right, outputs[1], **PRIVATE)


def answer_box(name: str, side: str, visible: bool = True) -> gr.Textbox:
    """Where an answer appears."""
    return gr.Textbox(
        label=name,
        lines=6,
        max_lines=16,
        buttons=["copy"],
        interactive=False,
        elem_classes=f"at-{side}-answer",
        min_width=280,
        visible=visible,
    )


def shown(names: list[str], texts: list[str]) -> list:
    """The two boxes with what they hold now, and who wrote it."""
    texts = [*texts, ""][: len(names)]
    return [gr.update(value=text, label=name) for name, text in zip(names, texts, strict=True)]


def make_conversation(
    run: OpenRun, settings: Settings, left: gr.Dropdown, right: gr.Dropdown
) -> None:
    """A talk with each of the two voices, to whom the same is said."""
    talks = gr.State([[], []])
    with gr.Row():
        titles, boxes, columns = zip(
            talk_box(TUNED, "left"), talk_box(BASE, "right", right.value != NOTHING), strict=True
        )
    message = message_box()
    with gr.Row():
        ask = gr.Button("Send", variant="primary", elem_classes="at-ask", min_width=100)
        stop = gr.Button("Stop", elem_classes="at-stop-writing", min_width=100)
        new = gr.Button("New conversation", elem_classes="at-new", min_width=100)

    def replied(left: str, right: str, message: str, talks: list, *values: Any) -> Iterator[list]:
        with mistakes_said():
            voices = chosen(run, left, right)
            generation = settings.generation(values)
            before, taken = talks[: len(voices)], ""
            for now in writing.replies(run, voices, before, message, generation):
                now = [*now, []][: len(talks)]
                yield [now, taken, *(gr.update(value=looks.as_it_stands(talk)) for talk in now)]
                taken = gr.skip()  # somebody may be typing the next already

    inputs = [left, right, message, talks, *settings.fields]
    outputs = [talks, message, *boxes]
    events = [
        happens(replied, inputs, outputs, show_progress_on=boxes, **ONE_AT_A_TIME, **PRIVATE)
        for happens in (ask.click, message.submit)
    ]
    stop.click(None, cancels=events, **PRIVATE)

    def begun(left: str, right: str) -> list:
        return [
            [[], []],
            *([], []),
            *map(looks.heading, map(html.escape, (left, right))),
            gr.update(visible=right != NOTHING),
        ]

    # Who answers next did not say what was said so far.
    cleared = [new.click, left.change, right.change, *(box.clear for box in boxes)]
    for happens in cleared:
        changed = [talks, *boxes, *titles, columns[1]]
        happens(begun, [left, right], changed, cancels=events, **PRIVATE)


def message_box() -> gr.Textbox:
    """Where what is said next is typed."""
    return gr.Textbox(
        label="You",
        placeholder="Say something",
        elem_classes="at-message",
        autofocus=True,
        max_lines=6,
    )


def talk_box(name: str, side: str, visible: bool = True) -> tuple[gr.HTML, gr.Chatbot, gr.Column]:
    """Where a talk appears, with whom above it; what a model writes is shown as it is."""
    with gr.Column(min_width=280, visible=visible) as column:
        title = gr.HTML(looks.heading(name))
        box = gr.Chatbot(
            height=380,
            show_label=False,
            render_markdown=False,
            buttons=[],  # of which one would copy the HTML
            elem_classes=f"at-{side}-talk",
        )
    return title, box, column
