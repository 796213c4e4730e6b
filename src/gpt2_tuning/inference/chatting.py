"""Answers in conversations: to rows of messages, and to a person who goes on asking."""

import dataclasses
import json

from gpt2_tuning.data.chat_examples import chat_ids, least_fitting, shortenings
from gpt2_tuning.data.chat_template import ChatTemplate, is_chat
from gpt2_tuning.data.conversations import ASSISTANT, USER, ConversationText, Messages
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.prompts import Template
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.answering import Fields, InputColumns, asked
from gpt2_tuning.inference.generation import Prompt
from gpt2_tuning.inference.responding import Responder
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.options.testing import GenerationOptions

NEW = "/new"
"""What is typed to begin another conversation."""


@dataclasses.dataclass(frozen=True)
class ChatResponder(Responder):
    """A model of conversations: what it reads is all that was said so far."""

    def prompt(self, fields: Fields) -> Prompt:
        """The tokens of what comes before the answer.

        Raises:
            UserError: the template refuses what was said.
        """
        return self.tokens(messages_of(fields))

    def tokens(self, messages: Messages) -> list[int]:
        """The tokens up to the answer to the last of these messages."""
        assert isinstance(self.template, ChatTemplate)
        rendered = self.template.render(messages, prompt=True)
        return chat_ids(rendered, self.template.tokenizer)[0]

    def fitted(self, fields: Fields) -> Prompt:
        """As `prompt`; where the flags let prompts be cut, without the earliest exchanges."""
        messages = messages_of(fields)
        return self.prompt(fields) if not self.options.cut_prompts else self.fitting(messages)[0]

    def fitting(self, messages: Messages) -> tuple[list[int], Messages]:
        """The tokens of as much of a conversation as leaves room for an answer, and that much.

        One of which not even the last turn fits stays whole.
        """
        assert isinstance(self.template, ChatTemplate)
        room = self.model.config.decoder.positions - self.settings().max_new_tokens
        shorter = shortenings(messages, answered=False)
        for kept in shorter[least_fitting(shorter, self.template, room, prompt=True) :]:
            ids = self.tokens(kept)
            if len(ids) <= room:
                return ids, kept
        return self.tokens(messages), messages

    def was_cut(self, fields: Fields, prompt: Prompt) -> bool:
        """Whether `fitted` left something out."""
        return self.options.cut_prompts and len(prompt) < len(self.prompt(fields))


def responder_of(model: LanguageModel, metadata: Metadata, options: GenerationOptions) -> Responder:
    """What answers by the template that the model was tuned on."""
    fields = metadata.template
    if fields is None:
        return Responder(model, None, options)
    if is_chat(fields):
        template = ChatTemplate.from_metadata(fields, metadata.tokenizer)
        return ChatResponder(model, template, options)
    return Responder(model, Template.from_metadata(fields), options)


def messages_of(fields: Fields) -> Messages:
    """What was said before the answer that is asked for."""
    if isinstance(fields[0], ConversationText):
        messages: Messages = json.loads(fields[0])
        return messages
    return [{"role": USER, "content": "\n\n".join(filter(None, reversed(fields)))}]


def talk(responder: ChatResponder) -> None:
    """Answers what is typed, with all that was said before, until an empty line or Ctrl-D."""
    print(f"{NEW} begins another conversation")
    messages: Messages = []
    for (text,) in asked(InputColumns(("you",))):
        if text.strip() == NEW:
            messages = []
            continue
        said = [*messages, {"role": USER, "content": text}]
        try:
            ids, kept = responder.fitting(said)
        except UserError as error:  # the template's, such as of two turns of one role
            print(f"(not said: {error})")
            continue
        messages = said
        if len(kept) < len(messages):
            print("(the beginning of the conversation is too long ago for the model)")
        messages = kept
        answer = ""
        for piece in responder.stream_ids(ids):
            print(piece, end="", flush=True)
            answer += piece
        print()
        messages.append({"role": ASSISTANT, "content": answer.strip()})
