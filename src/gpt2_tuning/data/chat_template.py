"""A conversation as one text, by a template in transformers' form, and what of it is learnt.

What the assistant said is learnt, with what ends its turn. A template says where that is by
`{% generation %}`; of one that does not, conversations are rendered turn by turn: what an answer
adds to its prompt is the answer.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpt2_tuning import extras
from gpt2_tuning.data.conversations import ASSISTANT, Messages
from gpt2_tuning.data.file_tokenizer import TEMPLATE_FILE, TOKENIZER_CONFIG_FILE
from gpt2_tuning.data.tokenizer import Span, Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.small_files import read_json, read_text

if TYPE_CHECKING:
    from gpt2_tuning.data.sandbox import Sandbox

MOST_CHARACTERS = 100_000
"""Of a template."""
PRIVATE = tuple(map(chr, range(0xE000, 0xE000 + 64)))
"""Characters that mean nothing to anybody, of which three that no text holds serve as marks."""
FAILURES = (
    *(RecursionError, MemoryError),
    *(ArithmeticError, LookupError, TypeError, ValueError, AttributeError),
)
"""How what a template computes may fail, beside what Jinja says: as Python does."""
KIND = "chat"
"""What metadata.json says of a template that is one of conversations."""
FIELD = "chat_template"
MARK_THEM = (
    "mark the answers in it by {% generation %} and {% endgeneration %}, or choose another "
    "--chat_template"
)
DEFAULT = """\
{%- for message in messages %}
{%- if message.role == "system" %}
{{- message.content | trim + "\\n\\n" }}
{%- elif message.role == "assistant" %}
{{- "### Response:\\n" }}
{%- generation %}
{{- message.content | trim + eos_token }}
{%- endgeneration %}
{{- "\\n\\n" }}
{%- else %}
{{- "### Instruction:\\n" + message.content | trim + "\\n\\n" }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- "### Response:\\n" }}
{%- endif %}
"""
"""For bases without a template of their own."""


@dataclasses.dataclass(frozen=True)
class Rendered:
    """A conversation as one text."""

    text: str
    learnt: list[Span]
    """The stretches that are learnt, in order."""
    hidden: str
    """The mark that stands within what looks like a special token in a message: it is none."""


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
    """A template of conversations.

    Raises:
        UserError: it is too long, or no Jinja.
    """

    name: str
    """`default`, or what it was read from."""
    text: str
    tokenizer: Tokenizer
    """Of the base: templates may write its special tokens."""

    def __post_init__(self) -> None:
        if len(self.text) > MOST_CHARACTERS:
            raise UserError(f"template {self.name} has more than {MOST_CHARACTERS:,} characters")
        self.compiled(*PRIVATE[:2])

    @property
    def marks_answers(self) -> bool:
        """Whether it says itself what is learnt."""
        return self.compiled(*PRIVATE[:2])[0].generations > 0

    @property
    def letters(self) -> list[str]:
        """What looks like special tokens in it and is none of the base's: letters to its models."""
        found = dict.fromkeys(re.findall(r"<\|[^|<>{}]+\|>", self.text))
        return [name for name in found if name not in self.tokenizer.special_ids]

    def compiled(self, begin: str, end: str) -> tuple["Sandbox", Any]:
        """An environment and the template in it, which is compiled once for each pair of marks."""
        return compiled(self.name, self.text, begin, end)

    def plain(self, messages: Messages, marks: Sequence[str], prompt: bool = False) -> str:
        """A conversation's text, with marks around what the template says is learnt.

        Args:
            messages: the conversation.
            marks: two characters that none of it holds.
            prompt: whether it ends with what comes before an answer.

        Raises:
            UserError: the template refuses the conversation, or takes too long.
        """
        from jinja2 import TemplateError

        from gpt2_tuning.data.sandbox import bounded_text

        environment, template = self.compiled(*marks)
        environment.begin_again()
        try:
            given = {"messages": messages, "add_generation_prompt": prompt, "tools": None}
            return bounded_text(template.generate(**given, **self.tokenizer.named))
        except (TemplateError, *FAILURES) as error:
            raise UserError(f"template {self.name}: {said(error)}") from error

    def text_of(self, messages: Messages, prompt: bool = False) -> str:
        """A conversation as one text; with `prompt` up to the next answer. Raises as `plain`."""
        marks = self.free_marks(messages)[:2]
        return between(self.plain(messages, marks, prompt), *marks)[0]

    def free_marks(self, messages: Messages) -> list[str]:
        """Three characters that neither a conversation nor the template holds.

        Raises:
            UserError: there are not so many.
        """
        contents = "".join(message["content"] for message in messages)
        free = [mark for mark in PRIVATE if mark not in contents and mark not in self.text]
        if len(free) < 3:
            raise UserError("a conversation holds too many characters for private use")
        return free[:3]

    def render(self, messages: Messages, prompt: bool = False) -> Rendered:
        """A conversation with where its answers are; with `prompt` up to the next answer.

        Raises:
            UserError: as `plain`; or the template has no place for an answer, or changes earlier
                turns for later ones.
        """
        *marks, hidden = self.free_marks(messages)
        messages = [
            {**one, "content": with_hidden(one["content"], self.tokenizer, hidden)}
            for one in messages
        ]
        text, spans = between(self.plain(messages, marks, prompt), *marks)
        if not self.marks_answers:
            spans = self.added(messages, marks, text)
        answers = [one["content"] for one in messages if one["role"] == ASSISTANT]
        if len(spans) == len(answers):  # to say nothing is not learnt
            spans = [span for span, said in zip(spans, answers, strict=True) if said.strip()]
        return Rendered(text, spans, hidden)

    def added(self, messages: Messages, marks: Sequence[str], whole: str) -> list[Span]:
        """What each answer adds to its prompt, where the template marks none."""
        spans = []
        for number, message in enumerate(messages):
            if message["role"] != ASSISTANT:
                continue
            asked = self.plain(messages[:number], marks)
            before = self.plain(messages[:number], marks, prompt=True)
            after = self.plain(messages[: number + 1], marks)
            # Some templates, as Llama 2's, write nothing before an answer but what ends a question.
            said = after[len(before) :].lstrip()
            silent = before == asked and not said.startswith(message["content"].strip())
            if silent or not after.startswith(before):
                raise UserError(
                    f"template {self.name} does not write before an answer what it writes with "
                    f"add_generation_prompt, so where answers begin cannot be told: {MARK_THEM}"
                )
            if not whole.startswith(after.rstrip()):
                raise UserError(
                    f"template {self.name} writes earlier turns otherwise when later ones follow, "
                    f"so what is learnt would not be what is asked for: {MARK_THEM}"
                )
            spans.append((len(before), len(after.rstrip())))
        return spans

    def to_metadata(self) -> dict[str, str]:
        """What metadata.json keeps; `from_metadata` reads it back."""
        return {"name": self.name, "text": self.text, "kind": KIND}

    @classmethod
    def from_metadata(cls, fields: Mapping[str, str], tokenizer: Tokenizer) -> "ChatTemplate":
        """The template of a prepared data set or of a run. Raises UserError as the class does."""
        return cls(fields["name"], fields["text"], tokenizer)


@functools.lru_cache(64)
def compiled(name: str, text: str, begin: str, end: str) -> tuple["Sandbox", Any]:
    """A template in an environment of its own. Raises UserError where it is no Jinja."""
    extras.check_installed("conversations", f"template {name}")
    from jinja2 import TemplateSyntaxError

    from gpt2_tuning.data.sandbox import Sandbox

    environment = Sandbox(begin, end)
    try:
        return environment, environment.from_string(text)
    except TemplateSyntaxError as error:
        raise UserError(f"template {name}, line {error.lineno}: {said(error)}") from error
    except (RecursionError, MemoryError, OverflowError, SyntaxError) as error:
        raise UserError(f"template {name} is nested too deep") from error


def said(error: BaseException) -> str:
    """An error in a line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def with_hidden(content: str, tokenizer: Tokenizer, hidden: str) -> str:
    """A content in which letters of special tokens are no tokens: a mark stands within them.

    One stands too where a message ends or begins with a part of one, which what the template writes
    there, or the next message, might complete.
    """
    inner = content.strip()
    heads, tails = parts_of(tuple(tokenizer.special_ids))
    begins = hidden if inner.startswith(tails) else ""
    ends = hidden if inner.endswith(heads) else ""
    for token in tokenizer.special_ids:
        content = content.replace(token, f"{token[0]}{hidden}{token[1:]}")
    inner = content.strip()
    before, _, after = content.partition(inner) if inner else ("", "", content)
    return f"{before}{begins}{inner}{ends}{after}"


@functools.lru_cache(4)
def parts_of(tokens: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Everything that a special token may begin with, short of all of it, and may end with."""
    cuts = [(token[:cut], token[cut:]) for token in tokens for cut in range(1, len(token))]
    return tuple({head for head, _ in cuts}), tuple({tail for _, tail in cuts})


def between(text: str, begin: str, end: str) -> tuple[str, list[Span]]:
    """A text without marks, and the stretches that were between them."""
    plain, spans, started = "", [], 0
    for part in re.split(f"([{begin}{end}])", text):
        if part == begin:
            started = len(plain)
        elif part == end:
            spans.append((started, len(plain)))
        else:
            plain += part
    return plain, spans


def chat_template_of(name: str | None, base: Path | None, tokenizer: Tokenizer) -> ChatTemplate:
    """The template that a flag names, or the base's own, or the default.

    Args:
        name: a file, or a directory that has a base's; None is not given.
        base: the base's directory, where there is one.
        tokenizer: of the base.

    Raises:
        UserError: there is none where the flag says, or it cannot be used.
    """
    if name is not None and Path(name).is_file():
        return ChatTemplate(Path(name).name, read_text(Path(name)), tokenizer)
    for directory in [Path(name)] if name is not None else [base] if base else []:
        if (directory / TEMPLATE_FILE).is_file():
            text = read_text(directory / TEMPLATE_FILE)
            return ChatTemplate(directory.name, text, tokenizer)
        if (directory / TOKENIZER_CONFIG_FILE).is_file():
            found = read_json(directory / TOKENIZER_CONFIG_FILE, "a tokenizer").get(FIELD)
            if isinstance(found, list):  # several, by name
                named = [one for one in found if isinstance(one, dict)]
                found = {one.get("name"): one.get("template") for one in named}.get("default")
            if found is not None and not isinstance(found, str):
                raise UserError(f"{directory / TOKENIZER_CONFIG_FILE}: its {FIELD} is no text")
            if isinstance(found, str):
                return ChatTemplate(directory.name, found, tokenizer)
    if name is not None:
        raise UserError(
            f"--chat_template {name}: no such file, and no directory with {TEMPLATE_FILE} or a "
            f"{TOKENIZER_CONFIG_FILE} that has {FIELD}"
        )
    return ChatTemplate("default", DEFAULT, tokenizer)


def is_chat(fields: Mapping[str, str] | None) -> bool:
    """Whether what metadata.json has of a template is one of conversations."""
    return fields is not None and fields.get("kind") == KIND
