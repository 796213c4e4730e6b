"""Prompt templates: how an instruction and its context become the text that a response follows.

Preparation and generation use the same object: metadata.json keeps a template's name and text,
from which it is rebuilt.
"""

import bisect
import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gpt2_tuning.data.examples import Dropped, Example, PromptTokens, instruction_example
from gpt2_tuning.data.tokenizer import Tokenizer, begun
from gpt2_tuning.data.words import WordTokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.small_files import read_text

FIELDS = ("instruction", "context", "response")
TAG = re.compile(r"\{(?P<kind>[?/]?)(?P<name>[A-Za-z_]\w*)\}")
"""Anything else in braces is text."""
HOW = "; a template is text with {instruction}, {context} if wanted, and {response} at its end"

DOLLY = """\
### Instruction:
{instruction}

{?context}### Context:
{context}

{/context}### Response:
{response}"""

# Stanford Alpaca's two forms (https://github.com/tatsu-lab/stanford_alpaca) in one text. Nothing
# comes between its last header and the response.
ALPACA = """\
Below is an instruction that describes a task{?context}, paired with an input that provides \
further context{/context}. Write a response that appropriately completes the request.

### Instruction:
{instruction}

{?context}### Input:
{context}

{/context}### Response:{response}"""


@dataclasses.dataclass(frozen=True)
class Part:
    """A stretch of a template: literal text, or the place of a field."""

    text: str
    """The literal text; empty for a field."""
    field: str | None
    """The field, or None for literal text."""
    needs: str | None
    """The field without which the part is left out."""


@dataclasses.dataclass(frozen=True)
class Prompt:
    """Everything up to the response, and where in it the context is."""

    text: str
    context_start: int
    """Position of the context's first character; the text's end where there is no context."""
    context_end: int
    """Position after the context's last character."""


@dataclasses.dataclass(frozen=True)
class Template:
    """A template, written as text with named fields.

    `{instruction}`, `{context}` and `{response}` stand for the fields: the first occurs once, the
    second at most once, the last once and at the end. What stands between `{?context}` and
    `{/context}` is left out where a row has no context; there may be several such sections, but
    none within another. All other text is literal, other braces included. What is put in for a
    field is never looked into.

    Raises:
        UserError: the text breaks these rules.
    """

    name: str
    """`dolly`, `alpaca` or a file's name."""
    text: str
    """The whole template. Only the blank lines at its end are not kept."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self.text.rstrip())
        fields = [part.field for part in self.parts if part.field]
        if fields.count("response") != 1 or fields[-1] != "response" or self.parts[-1].text:
            raise UserError(f"template {self.name}: {{response}} must come once, at the end{HOW}")
        if fields.count("instruction") != 1 or fields.count("context") > 1:
            raise UserError(
                f"template {self.name}: {{instruction}} must occur once and {{context}} at most"
                f" once{HOW}"
            )
        for part in self.parts:
            if part.needs and part.field in ("instruction", "response"):
                raise UserError(
                    f"template {self.name}: {{{part.field}}} may not be in a section that can be"
                    f" left out{HOW}"
                )

    @functools.cached_property
    def parts(self) -> list[Part]:
        """The text taken apart."""
        return parse(self.name, self.text)

    @property
    def has_context(self) -> bool:
        """Whether the template shows a context."""
        return any(part.field == "context" for part in self.parts)

    def prompt(self, instruction: str, context: str = "") -> str:
        """Everything up to the response.

        Blank space around the fields is not kept. A context that is empty or blank is none.
        """
        return self.render(instruction, context).text

    def render(self, instruction: str, context: str = "") -> Prompt:
        """The same, with the place of the context in it."""
        values = {"instruction": instruction.strip(), "context": context.strip(), "response": ""}
        text, span = "", None
        for part in self.parts:
            if part.needs and not values[part.needs]:
                continue
            added = values[part.field] if part.field else part.text
            if part.field == "context" and added:
                span = (len(text), len(text) + len(added))
            text += added
        return Prompt(text, *(span or (len(text), len(text))))

    def to_metadata(self) -> dict[str, str]:
        """What metadata.json keeps; `from_metadata` reads it back."""
        return {"name": self.name, "text": self.text}

    @classmethod
    def from_metadata(cls, fields: Mapping[str, str] | None) -> "Template":
        """The template of a prepared data set or of a run.

        Raises:
            UserError: there is none, or it is not a template.
        """
        if fields is None or set(fields) != {"name", "text"}:
            raise UserError("metadata.json holds no prompt template: prepare the data set anew")
        return cls(**fields)


def parse(name: str, text: str) -> list[Part]:
    """A template's text as literal parts and fields, in order.

    Raises:
        UserError: a field has an unknown name, or a section does not begin or end as it should.
    """
    parts = []
    needs = None
    done = 0
    for tag in TAG.finditer(text):
        kind, field = tag["kind"], tag["name"]
        if field not in FIELDS:
            raise UserError(f"template {name}: unknown field {tag[0]}{HOW}")
        if kind and field != "context":
            raise UserError(f"template {name}: {tag[0]}: only a context can be missing{HOW}")
        if tag.start() > done:
            parts.append(Part(text[done : tag.start()], None, needs))
        done = tag.end()
        if (kind == "?" and needs) or (kind == "/" and not needs):
            raise UserError(f"template {name}: {tag[0]} is out of place{HOW}")
        if kind:
            needs = field if kind == "?" else None
        else:
            parts.append(Part("", field, needs))
    if needs:
        raise UserError(f"template {name}: {{?{needs}}} has no {{/{needs}}} after it{HOW}")
    if done < len(text):
        parts.append(Part(text[done:], None, None))
    return parts


def prompt_tokens(prompts: Sequence[Prompt], tokenizer: Tokenizer) -> list[PromptTokens]:
    """The tokens of whole prompts, with those of the context set apart so that it can be cut.

    A token that the context shares with the template, such as a space before its first word, is
    not the context's.
    """
    encoded = tokenizer.encode_with_spans([prompt.text for prompt in prompts])
    pieces = []
    for prompt, (ids, spans) in zip(prompts, encoded, strict=True):
        first = bisect.bisect_left(spans, prompt.context_start, key=lambda span: span[0])
        stop = bisect.bisect_right(spans, prompt.context_end, key=lambda span: span[1])
        stop = max(first, stop)
        head = begun(ids[:first], tokenizer)
        pieces.append(PromptTokens(head, ids[first:stop], ids[stop:]))
    return pieces


def instruction_examples(
    instructions: Sequence[str],
    contexts: Sequence[str | None],
    responses: Sequence[str],
    template: Template,
    seq_len: int,
    tokenizer: WordTokenizer,
) -> Iterator[Example | Dropped]:
    """One example for each instruction, or the reason why there is none.

    Blank space around the fields is not kept.
    """
    prompts = [
        template.render(instruction, context or "")
        for instruction, context in zip(instructions, contexts, strict=True)
    ]
    answers = tokenizer.encode_batch([response.strip() for response in responses])
    encoded = zip(prompt_tokens(prompts, tokenizer.tokenizer), answers, strict=True)
    for instruction, (prompt, response) in zip(instructions, encoded, strict=True):
        if not instruction.strip():
            yield Dropped("no instruction")
        elif not response:
            yield Dropped("empty response")
        else:
            yield instruction_example(prompt, response, seq_len, tokenizer.tokenizer.end)


TEMPLATES = {
    name: Template(name, text) for name, text in {"dolly": DOLLY, "alpaca": ALPACA}.items()
}


def load_template(name: str) -> Template:
    """The template called `dolly` or `alpaca`, or the one in a UTF-8 text file.

    Raises:
        UserError: there is no such file, it cannot be read, or it is not a template.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    path = Path(name)
    if not path.is_file():
        raise UserError(f"no such template: {name}: give {', '.join(TEMPLATES)} or a text file")
    return Template(path.name, read_text(path))
