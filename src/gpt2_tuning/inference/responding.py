"""Responses of a language model: printed, streamed, beside those of its base, or into a file."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from gpt2_tuning.data.chat_template import ChatTemplate
from gpt2_tuning.data.prompts import Template, prompt_tokens
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.answering import Fields, FileToAnswer, note
from gpt2_tuning.inference.generation import Prompt, generate_text, prompt_ids, stream_text
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.models.gate import Choice
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.options.testing import GenerationOptions

ADDED = ("generated",)
"""The column that responding adds to a file."""
BATCHES_AT_ONCE = 4
"""Batches that are responded to, and written down, together."""


@dataclasses.dataclass(frozen=True)
class Responder:
    """A model with the template it was tuned on, and the flags that say how it writes."""

    model: LanguageModel
    template: Template | ChatTemplate | None
    """None for a model of plain text: a prompt is continued as it is."""
    options: GenerationOptions
    generation: Generation | None = None
    """How prompts are continued, in place of what the flags say."""

    def prompt(self, fields: Fields) -> Prompt:
        """What the model reads for an instruction and its context, or for a text."""
        return self.template.prompt(*fields) if isinstance(self.template, Template) else fields[0]

    def respond(
        self, examples: Sequence[Fields], adapters: Sequence[Choice] | None = None
    ) -> list[str]:
        """The responses, in order; with `adapters` each under its own."""
        prompts = [self.prompt(fields) for fields in examples]
        return self.continue_prompts(prompts, adapters=adapters)

    def continue_prompts(
        self,
        prompts: Sequence[Prompt],
        first_number: int = 0,
        adapters: Sequence[Choice] | None = None,
    ) -> list[str]:
        """The same for what the model reads, as texts or token ids.

        Where these are part of a list, `first_number` is how many of it come before them.
        """
        done = generate_text(
            self.model,
            prompts,
            batch_size=self.options.batch_size,
            first_number=first_number,
            generation=self.settings(),
            adapters=adapters,
        )
        return [text.strip() if self.template else text for text in done]

    def answer_file(self, file: FileToAnswer) -> None:
        """Adds the columns of ADDED to every row of a file.

        Which prompts are too long is found out before the first is responded to: they are cut where
        that is asked for, else have no answer.

        Raises:
            UserError: a prompt is too long, and the flags are strict.
        """
        cut = 0
        for place, fields in enumerate(file.examples):
            if not fields:
                continue
            try:
                prompt = self.fitted(fields)
                prompt_ids(self.model, [prompt], [self.settings()], self.model.tokenizer, place)
            except UserError as error:
                file.refuse(place, f"{file.source.name}: {error}")
            else:
                cut += self.was_cut(fields, prompt)
        if cut:
            note(f"{cut:,} of {len(file.rows):,} prompts are too long and are cut")
        file.answer(self.rows)

    def rows(self, examples: Sequence[Fields], first_row: int) -> list[dict[str, Any]]:
        """What is added to the rows of a file, of which `first_row` come before these."""
        prompts = [self.fitted(fields) for fields in examples]
        return [{"generated": text} for text in self.continue_prompts(prompts, first_row)]

    def fitted(self, fields: Fields) -> Prompt:
        """The prompt, or its token ids without what the flags let be cut, if it is too long.

        Of a template the end of the context is, as in preparation, of plain text the beginning. A
        prompt that would be too long all the same stays whole.
        """
        text = self.prompt(fields)
        if not self.options.cut_prompts or not isinstance(text, str):
            return text
        tokenizer = self.model.tokenizer
        room = self.model.config.decoder.positions - self.settings().max_new_tokens
        if isinstance(self.template, Template):
            head, context, tail = prompt_tokens([self.template.render(*fields)], tokenizer)[0]
            over = len(head) + len(context) + len(tail) - room
            return text if over <= 0 or over >= len(context) else [*head, *context[:-over], *tail]
        ids = tokenizer.encode(text)
        start = [] if tokenizer.start is None else [tokenizer.start]
        over = len(start) + len(ids) - room
        return text if over <= 0 or over >= len(ids) else [*start, *ids[over:]]

    def was_cut(self, fields: Fields, prompt: Prompt) -> bool:
        """Whether `fitted` left something out."""
        return not isinstance(prompt, str)

    def stream(self, fields: Fields) -> Iterator[str]:
        """One response, piece by piece."""
        return self.stream_ids(self.prompt(fields))

    def stream_ids(self, prompt: Prompt) -> Iterator[str]:
        """The same for what the model reads."""
        return stream_text(self.model, prompt, generation=self.settings())

    def settings(self) -> Generation:
        """How a prompt is continued."""
        if self.generation is not None:
            return self.generation
        flags = self.options
        method = flags.sampling_method
        return Generation(
            temperature=0 if method == "greedy" else flags.temperature,
            top_k=flags.top_k if method == "top_k" else 0,
            top_p=flags.top_p if method == "top_p" else 1,
            min_p=flags.min_p,
            repetition_penalty=flags.repetition_penalty,
            presence_penalty=flags.presence_penalty,
            frequency_penalty=flags.frequency_penalty,
            no_repeat_ngram=flags.no_repeat_ngram,
            seed=flags.seed,
            stop=flags.stop,
            max_new_tokens=flags.max_new_tokens,
        )


def print_responses(responder: Responder, examples: Sequence[Fields]) -> None:
    """Prints each example with its response."""
    for fields, response in zip(examples, responder.respond(examples), strict=True):
        print(f"> {' | '.join(filter(None, fields))}\n{response}\n")


def print_compared(responder: Responder, base: LanguageModel, examples: Sequence[Fields]) -> None:
    """Prints the base's and the tuned model's responses side by side.

    Args:
        responder: of the tuned model.
        base: the model it was tuned from; the tuned one itself where LoRA can be switched off.
        examples: what both respond to.
    """
    tuned = responder.respond(examples)
    switched = base.disable_lora() if base is responder.model else contextlib.nullcontext()
    with switched:
        plain = dataclasses.replace(responder, model=base).respond(examples)
    table = Table("prompt", "base", "tuned", show_lines=True)
    for fields, before, after in zip(examples, plain, tuned, strict=True):
        table.add_row(*("\n".join(filter(None, fields)), before, after))
    Console().print(table, markup=False)


def print_under_adapters(
    responder: Responder, adapters: Mapping[str, Choice], examples: Sequence[Fields]
) -> None:
    """Prints the responses under each adapter side by side; all are computed together.

    Args:
        responder: of a model that has the adapters.
        adapters: by what they are called here.
        examples: what all respond to.
    """
    rows = [(fields, choice) for fields in examples for choice in adapters.values()]
    responses = iter(responder.respond([fields for fields, _ in rows], [row[1] for row in rows]))
    table = Table("prompt", *adapters, show_lines=True)
    for fields in examples:
        table.add_row("\n".join(filter(None, fields)), *itertools.islice(responses, len(adapters)))
    Console().print(table, markup=False)


def print_stream(responder: Responder, fields: Fields) -> None:
    """Prints one response as it comes."""
    for piece in responder.stream(fields):
        print(piece, end="", flush=True)
    print()
