"""Conversations as rows have them: lists of messages, in the two forms that people use."""

import contextlib
import json
from collections.abc import Sequence
from typing import Any

from gpt2_tuning.checks import shown
from gpt2_tuning.data.columns import unix_newlines
from gpt2_tuning.data.tokenizer import check_encodable
from gpt2_tuning.errors import UserError

Messages = list[dict[str, str]]
"""What was said, in order: a `role` and a `content` each."""
COLUMNS = ("messages", "conversations")
"""What columns of conversations are usually called."""
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
ROLES = {
    **{role: role for role in (SYSTEM, USER, ASSISTANT, "tool")},
    # ShareGPT's and its heirs'
    **{"human": USER, "gpt": ASSISTANT, "chatgpt": ASSISTANT, "model": ASSISTANT, "bot": ASSISTANT},
}
"""The roles of templates by the words of rows."""
KEYS = (("role", "content"), ("from", "value"))
MOST_MESSAGES = 1000


def as_json(value: object) -> object:
    """A list as its JSON text, so that conversations are compared and kept as text is."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def parsed(text: str | None, where: str) -> Messages:
    """The messages of a conversation that was written as JSON text.

    Raises:
        UserError: it is none, has a role or a content that is none, or nothing to learn.
    """
    try:
        found = json.loads(text or "null")
    except ValueError as error:
        raise UserError(f"{where} holds no list of messages") from error
    return checked(found, where)


def checked(found: object, where: str, answered: bool = True) -> Messages:
    """A list of messages, in the words of templates.

    Args:
        found: messages with `role` and `content`, or ShareGPT's `from` and `value`.
        where: what a message of an error begins with.
        answered: whether there must be an answer of the assistant.

    Raises:
        UserError: as `parsed`.
    """
    if not isinstance(found, list) or not found:
        raise UserError(f"{where} holds no list of messages")
    if len(found) > MOST_MESSAGES:
        raise UserError(f"{where} holds {len(found):,} messages; {MOST_MESSAGES:,} are the most")
    messages = [message_of(one, f"{where}, message {i}") for i, one in enumerate(found, start=1)]
    if answered and not any(message["role"] == ASSISTANT for message in messages):
        raise UserError(f"{where} has no message of the assistant, so nothing to learn")
    return messages


def message_of(found: Any, where: str) -> dict[str, str]:
    """One message. Raises UserError where it has no role, or no text."""
    for role_key, content_key in KEYS:
        if isinstance(found, dict) and role_key in found and content_key in found:
            role, content = found[role_key], found[content_key]
            break
    else:
        raise UserError(f"{where} is no object with role and content, or from and value")
    if role not in ROLES:
        known = ", ".join(dict.fromkeys(ROLES))
        raise UserError(f"{where} has the role {shown(role)}: known are {known}")
    if not isinstance(content, str):
        raise UserError(f"{where}: its {content_key} is no text: {shown(content)}")
    try:
        check_encodable(content)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return {"role": ROLES[role], "content": unix_newlines(content)}


class ConversationText(str):
    """A conversation as JSON text, where a plain text might stand too."""


def to_answer(value: Any, where: str) -> ConversationText:
    """A conversation as text, up to the last turn that is to be answered.

    Raises:
        UserError: it is none, or there is nothing to answer.
    """
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    messages = checked(value, where, answered=False)
    while messages and messages[-1]["role"] == ASSISTANT:  # it is to be answered anew
        messages.pop()
    if not messages or not messages[-1]["content"].strip():
        raise UserError(f"{where} holds nothing to answer")
    return ConversationText(json.dumps(messages, ensure_ascii=False))


def without_first_exchange(
    messages: Sequence[dict[str, str]], answered: bool = True
) -> Messages | None:
    """A conversation without its first user's turn and what was answered; None of the last one.

    What the system says at the beginning stays. `answered` is whether what is left needs an answer
    of the assistant.
    """
    start = next((i for i, one in enumerate(messages) if one["role"] != SYSTEM), len(messages))
    users = [i for i, one in enumerate(messages) if one["role"] == USER and i > start]
    following = next((i for i in users if has_answer(messages[i:]) or not answered), None)
    return None if following is None else [*messages[:start], *messages[following:]]


def has_answer(messages: Sequence[dict[str, str]]) -> bool:
    """Whether the assistant says something in it."""
    return any(message["role"] == ASSISTANT for message in messages)
