"""What the parts of the page share: one computation at a time, and mistakes that are said."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import gradio as gr

from gpt2_tuning.errors import UserError

ONE_AT_A_TIME: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
"""Of events that compute: who asks while another is answered waits for it."""
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""Of all events: the page is for people, so its functions are no API."""
NOTHING = "nothing"
"""In place of a second voice."""


@contextlib.contextmanager
def mistakes_said() -> Iterator[None]:
    """Inside the block what is a user's to mend is shown on the page, and not as a defect."""
    try:
        yield
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error


def choice_of(names: Sequence[str], label: str, value: str, place: str) -> gr.Dropdown:
    """A choice among names; it is not shown where there is none."""
    return gr.Dropdown(
        list(names),
        value=value,
        label=label,
        elem_classes=f"at-{place}",
        visible=len(names) > 1,
        min_width=160,
    )


def of_outputs(values: Sequence[Any]) -> Any:
    """The values of an event's outputs, as Gradio takes them: of one alone it is no list."""
    return values[0] if len(values) == 1 else list(values)
