"""Prompts that a graph makes of the texts it is given, by the template of a run."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from gpt2_tuning.data.chat_template import ChatTemplate, is_chat
from gpt2_tuning.data.conversations import USER
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.prompts import Template
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.signatures import Compose, Tensors, stripped

PROBES = ("Qxz", "Vwk Jhq")
"""Messages by which a template's own text is told from theirs."""


class Prompts(NamedTuple):
    """How prompts come of what is given."""

    names: Sequence[str]
    """Of the texts that are given."""
    compose: Compose


def prompts_of(metadata: Metadata) -> Prompts:
    """Those of a run's language model: of plain text, of instructions or of one message.

    Raises:
        UserError: the template cannot be a part of a graph.
    """
    fields = metadata.template
    if fields is None:
        return Prompts(["prompt"], lambda texts: texts["prompt"])
    if is_chat(fields):
        return of_message(ChatTemplate.from_metadata(fields, metadata.tokenizer))
    return of_instruction(Template.from_metadata(fields))


def of_instruction(template: Template) -> Prompts:
    """Prompts of an instruction and, where the template shows it, a context, which may be empty."""
    names = ["instruction", *(["context"] if template.has_context else [])]

    def compose(texts: Tensors) -> tf.Tensor:
        values = {name: stripped(texts[name]) for name in names}
        nothing = tf.zeros_like(values["instruction"])
        values["response"] = nothing
        parts = []
        for part in template.parts:
            text = values[part.field] if part.field else nothing + part.text
            if part.needs:
                text = tf.where(values[part.needs] == "", "", text)
            parts.append(text)
        return tf.strings.join(parts)

    return Prompts(names, compose)


def of_message(template: ChatTemplate) -> Prompts:
    """Prompts of conversations that are one message, with what the template writes around it.

    Raises:
        UserError: a message does not stand as it is in what the template writes, or special tokens
            stand around it.
    """

    def around(message: str) -> list[str]:
        said: list[Mapping[str, str]] = [{"role": USER, "content": message}]
        return template.text_of(said, prompt=True).split(message)  # type: ignore[arg-type]

    before, *after = around(PROBES[0])
    if len(after) != 1 or around(PROBES[1]) != [before, *after]:
        raise UserError(
            f"template {template.name} changes what a message says, which no graph can do: "
            "--to hf has the template"
        )
    for token in template.tokenizer.special_ids:
        if token in before + after[0]:
            raise UserError(
                f"template {template.name} writes {token} around a message, which a graph from "
                "texts cannot: --to hf has the template"
            )
    padded = f"  {PROBES[0]}\n"
    strips = template.text_of([{"role": USER, "content": padded}], prompt=True) == PROBES[0].join(
        [before, *after]
    )

    def compose(texts: Tensors) -> tf.Tensor:
        message = stripped(texts["message"]) if strips else texts["message"]
        return before + message + after[0]

    return Prompts(["message"], compose)
