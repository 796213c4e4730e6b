"""How a voice labels a text or a pair, and which tokens its label hangs on."""

from collections.abc import Sequence

from gpt2_tuning.chat.opened import OpenRun, Voice
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.answering import Fields, readable
from gpt2_tuning.inference.attribution import Share, gradient_times_input
from gpt2_tuning.inference.classification import Prediction, classify
from gpt2_tuning.models.classifier import Classifier


def label(run: OpenRun, voice: Voice, fields: Fields) -> Prediction:
    """The label of one example.

    Raises:
        UserError: a text is empty.
    """
    fields = texts_of(run, fields)
    return labels(run, voice, [fields])[0]


def labels(
    run: OpenRun, voice: Voice, examples: Sequence[Fields], first_row: int = 0
) -> list[Prediction]:
    """The labels of examples, of which `first_row` of a file's come before these."""
    assert isinstance(voice.model, Classifier)
    choices = [voice.choice] * len(examples)
    return classify(
        voice.model,
        examples,
        seq_len=run.metadata.seq_len,
        first_row=first_row,
        adapters=choices,
    )


def shares(run: OpenRun, voice: Voice, fields: Fields, name: str) -> list[Share]:
    """Gradient x input of each stretch of what the model read, for the class of this name.

    Raises:
        UserError: a text is empty, or there is no such class.
    """
    assert isinstance(voice.model, Classifier)
    fields = texts_of(run, fields)
    return gradient_times_input(voice.model, fields, name, run.metadata.seq_len, voice.choice)


def texts_of(run: OpenRun, fields: Fields) -> Fields:
    """The texts as the model is to read them. Raises UserError where one is empty."""
    for name, text in zip(run.texts, fields, strict=True):
        if not text.strip():
            raise UserError(f"the {name} is empty")
    return readable(fields, "the text")
