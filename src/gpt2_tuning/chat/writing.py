"""What several voices write to the same question, side by side as it comes."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpt2_tuning.chat.opened import OpenRun, Voice
from gpt2_tuning.data.chat_template import is_chat
from gpt2_tuning.data.conversations import ASSISTANT, USER, Messages
from gpt2_tuning.data.prompts import Template
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.answering import Fields, readable
from gpt2_tuning.inference.chatting import ChatResponder
from gpt2_tuning.inference.generation import Prompt, stream_texts
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.models.language_model import LanguageModel


def asked_for(run: OpenRun) -> dict[str, bool]:
    """What a prompt is made of, and whether it may be left out: the page has a field for each."""
    template = run.metadata.template
    if template is None:
        return {"text": False}
    if is_chat(template):
        return {"message": False}
    context = Template.from_metadata(template).has_context
    return {"instruction": False, **({"context": True} if context else {})}


def converses(run: OpenRun) -> bool:
    """Whether it was tuned on conversations."""
    return is_chat(run.metadata.template)


def generation_of(values: Mapping[str, Any], stop: str) -> Generation:
    r"""How to write, from the values of the page's fields.

    Args:
        values: by the names of Generation.
        stop: a text a line before which an answer ends; \n in it stands for the end of a line.

    Raises:
        UserError: a value is out of its range, or left out.
    """
    for name, value in values.items():
        if value is None:
            raise UserError(f"{name} is empty: it must be a number")
    words = [line.replace("\\n", "\n") for line in stop.splitlines() if line]
    return Generation(**values, stop=words)


def answers(
    run: OpenRun, voices: Sequence[Voice], fields: Fields, generation: Generation
) -> Iterator[list[str]]:
    """What each voice has answered so far, again and again until all are done.

    Raises:
        UserError: the first field is empty, or the prompt is too long.
    """
    if not fields[0].strip():
        raise UserError(f"the {next(iter(asked_for(run)))} is empty")
    fields = readable(fields, "the text")
    prompts = [run.responder(voice).prompt(fields) for voice in voices]
    for texts in side_by_side(voices, prompts, generation):
        yield [text.lstrip() for text in texts] if run.metadata.template else texts


def replies(
    run: OpenRun,
    voices: Sequence[Voice],
    talks: Sequence[Messages],
    said: str,
    generation: Generation,
) -> Iterator[list[Messages]]:
    """What was said with each voice, its reply to what is said now growing at the end.

    Each goes on from its own replies. Of a talk that grew too long for the model the earliest
    exchanges are not read any more.

    Raises:
        UserError: nothing is said, or it alone is too long.
    """
    if not said.strip():
        raise UserError("the message is empty")
    (text,) = readable((said,), "the message")
    talks = [[*talk, {"role": USER, "content": text}] for talk in talks]
    prompts = []
    for voice, talk in zip(voices, talks, strict=True):
        responder = dataclasses.replace(run.responder(voice), generation=generation)
        assert isinstance(responder, ChatResponder)
        prompts.append(responder.fitting(talk)[0])
    for texts in side_by_side(voices, prompts, generation):
        yield [
            [*talk, {"role": ASSISTANT, "content": text.strip()}]
            for talk, text in zip(talks, texts, strict=True)
        ]


def side_by_side(
    voices: Sequence[Voice], prompts: Sequence[Prompt], generation: Generation
) -> Iterator[list[str]]:
    """What each voice has written after its prompt so far; those of one model in one batch.

    Each text is what the voice would write alone. Mistakes are raised at the first.
    """
    texts = [""] * len(voices)
    streams = []
    for model in {id(voice.model): voice.model for voice in voices}.values():
        assert isinstance(model, LanguageModel)
        places = [place for place, voice in enumerate(voices) if voice.model is model]
        choices = [voices[place].choice for place in places]
        of_model = [prompts[place] for place in places]
        streams.append((places, stream_texts(model, of_model, generation, adapters=choices)))
    while streams:
        for stream in list(streams):
            pieces = next(stream[1], None)
            if pieces is None:
                streams.remove(stream)
                continue
            for place, piece in zip(stream[0], pieces, strict=True):
                texts[place] += piece
        if streams:
            yield list(texts)
