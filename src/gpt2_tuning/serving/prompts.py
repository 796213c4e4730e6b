"""From what a request says to the tokens that the model reads."""

from collections.abc import Sequence
from typing import Any

from gpt2_tuning.checks import is_text, shown
from gpt2_tuning.data import conversations
from gpt2_tuning.data.chat_examples import chat_ids
from gpt2_tuning.data.chat_template import ChatTemplate
from gpt2_tuning.data.conversations import SYSTEM, USER, Messages
from gpt2_tuning.data.prompts import Template
from gpt2_tuning.data.tokenizer import Tokenizer, begun
from gpt2_tuning.errors import UserError
from gpt2_tuning.serving.refusal import wrong
from gpt2_tuning.serving.served import Named

DEVELOPER = "developer"
"""OpenAI's newer word for the role of the system."""


def inputs_of(given: Any) -> list[str | list[int]]:
    """The texts, or lists of token ids, of a field that may be one of them or several."""
    if is_text(given) or not isinstance(given[0], (str, list)):
        return [given]
    return list(given)


def ids_of(given: Any, field: str, tokenizer: Tokenizer, vocabulary: int) -> list[list[int]]:
    """The token ids of each input.

    Args:
        given: the field's value.
        field: its name, for what is said of a mistake.
        tokenizer: of the model.
        vocabulary: how many ids the model knows.

    Raises:
        Refusal: one is empty, or an id is not in the vocabulary.
    """
    found = []
    for one in inputs_of(given):
        ids = list(begun(tokenizer.encode(one), tokenizer)) if isinstance(one, str) else one
        if not ids:
            raise wrong(f"{field} is empty", field)
        if max(ids) >= vocabulary:
            raise wrong(f"{field} holds a token id outside 0..{vocabulary - 1}", field)
        found.append(ids)
    return found


def chat_prompt(model: Named, messages: Sequence[Any], tokenizer: Tokenizer) -> list[int]:
    """The tokens up to the answer to the last message.

    Raises:
        Refusal: the model has no template, a message is none, or the template refuses them.
    """
    if model.template is None:
        raise wrong(
            f"the model `{model.name}` has no template of conversations or instructions: give its "
            "prompt to /v1/completions",
            "model",
        )
    try:
        said = conversations.checked([plain(one) for one in messages], "messages", answered=False)
        if isinstance(model.template, ChatTemplate):
            rendered = model.template.render(said, prompt=True)
            return chat_ids(rendered, model.template.tokenizer)[0]
        return list(begun(tokenizer.encode(instruction_prompt(model.template, said)), tokenizer))
    except UserError as error:
        raise wrong(str(error), "messages") from error


def plain(message: Any) -> Any:
    """A message with one text as its content, whichever way OpenAI's API has it."""
    if not isinstance(message, dict):
        return message
    content = message.get("content")
    if isinstance(content, list):
        parts: list[Any] = [
            part.get("text") if isinstance(part, dict) else part for part in content
        ]
        kinds = [part.get("type", "text") for part in content if isinstance(part, dict)]
        if not all(map(is_text, parts)) or set(map(str, kinds)) - {"text"}:
            raise UserError(f"messages: a content has a part that is no text: {shown(content)}")
        content = "".join(parts)
    role = message.get("role")
    return {"role": SYSTEM if role == DEVELOPER else role, "content": content}


def instruction_prompt(template: Template, messages: Messages) -> str:
    """The prompt of a run that was tuned on instructions: what the user says, and its context.

    Raises:
        UserError: there is more than one thing asked, or nothing.
    """
    asked = [one["content"] for one in messages if one["role"] == USER]
    context = [one["content"] for one in messages if one["role"] == SYSTEM]
    if len(asked) != 1 or len(context) > 1 or len(messages) > len(asked) + len(context):
        raise UserError(
            "messages: this model was tuned on single instructions: give one message of the user, "
            "and its context, if it has one, as one of the system"
        )
    if not asked[0].strip():
        raise UserError("messages: the user's message is empty")
    if context and context[0].strip() and not template.has_context:
        raise UserError("messages: this model's template has no place for a context")
    return template.prompt(asked[0], *context)
