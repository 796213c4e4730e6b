"""Text from a language model: whole continuations of many prompts, or one as it comes.

The model works in tokens, people in text: this is where the one becomes the other.
"""

from collections.abc import Iterator, Sequence
from types import EllipsisType

from gpt2_tuning.data.tokenizer import Tokenizer, begun
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.batch import Batch
from gpt2_tuning.inference.continuation import Continuation, Row
from gpt2_tuning.inference.decoders import decoder_of
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.inference.row_adapters import gate_of
from gpt2_tuning.inference.sampling import Greedy, Sampler
from gpt2_tuning.models.gate import Choice
from gpt2_tuning.models.language_model import LanguageModel

Prompt = str | Sequence[int]
"""A text, or token ids."""
Generations = Generation | Sequence[Generation]
"""How prompts are to be continued: all in one way, or a way each."""
GREEDY = Greedy()

CHUNK = 64
"""Tokens computed at a stretch. The keys and values so far are copied once a stretch."""
STOP_CHUNK = 16
"""The same where there are stop strings, which are looked for between stretches."""
STREAM_CHUNK = 4
"""The same in streaming: about as much as is read at a glance."""


def generate_text(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    max_new_tokens: int = 64,
    sampler: Sampler = GREEDY,
    seed: int = 0,
    stop: Sequence[str] = (),
    batch_size: int = 8,
    first_number: int = 0,
    *,
    generation: Generations | None = None,
    tokenizer: Tokenizer | None = None,
    adapters: Sequence[Choice] | None = None,
) -> list[str]:
    """Continues every prompt: the new text only, in the prompts' order. `generate` says more.

    Args:
        model: any language model; its weights and its gate count as they are at the call.
        prompts: texts or token ids, none empty.
        max_new_tokens: together with the longest prompt at most the model's positions (1,024).
        sampler: Greedy(), Temperature(t), TopK(k, t), TopP(p, t), or one of your own.
        seed: any 64-bit integer. The same seed gives prompt number i the same text in batches of
            any size, up to the last bits of the scores, which may decide a near tie otherwise.
        stop: texts before which a continuation ends.
        batch_size: how many prompts are computed together.
        first_number: the first prompt's number, where those of one list come in several calls.
        generation: all that the four before `batch_size` say and more, in place of them: for all
            prompts one, or one for each.
        tokenizer: between text and token ids; None is the model's.
        adapters: for each prompt the adapter that it is continued under, a dict of several with
            their shares, or None for the base; all are computed together. Without it all prompts
            are continued under what the model's `set_adapter` chose.

    Raises:
        UserError: a prompt or a stop string is empty, something is too long or out of range, or
            there is no such adapter.
    """
    how = (max_new_tokens, sampler, seed, stop, batch_size, first_number)
    others = {"generation": generation, "tokenizer": tokenizer, "adapters": adapters}
    done = generate(model, prompts, *how, **others)  # type: ignore[arg-type]
    return [continuation.text for continuation in done]


def generate(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    max_new_tokens: int = 64,
    sampler: Sampler = GREEDY,
    seed: int = 0,
    stop: Sequence[str] = (),
    batch_size: int = 8,
    first_number: int = 0,
    *,
    generation: Generations | None = None,
    tokenizer: Tokenizer | None = None,
    adapters: Sequence[Choice] | None = None,
) -> list[Continuation]:
    """As `generate_text`, with the text, the token ids and the reason of the end."""
    given = generation_of(generation, max_new_tokens, sampler, seed, stop)
    tokenizer = tokenizer or model.tokenizer
    if isinstance(prompts, str):
        raise UserError("prompts is one text: pass a list of them")
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, not {batch_size}")
    generations = one_each(given, len(prompts))
    ids = prompt_ids(model, prompts, generations, tokenizer)
    gate = gate_of(model, adapters, len(ids))
    decoder = decoder_of(model, tokenizer.vocabulary, [tokenizer.end], gate is not None)
    done: dict[int, Continuation] = {}
    for numbers in batches(ids, generations, batch_size):
        of_rows = [generations[number] for number in numbers]
        own = [first_number + number for number in numbers]
        of_batch = None if gate is None else gate[numbers]
        batch = Batch(decoder, [ids[number] for number in numbers], own, of_rows, of_batch)
        rows = [Row(tokenizer, generation) for generation in of_rows]
        chunk = STOP_CHUNK if any(generation.stop for generation in of_rows) else CHUNK
        while not batch.done:
            advance(batch, rows, chunk)
        done.update((number, row.continuation()) for number, row in zip(numbers, rows, strict=True))
    return [done[number] for number in range(len(ids))]


def stream_text(
    model: LanguageModel,
    prompt: Prompt,
    max_new_tokens: int = 64,
    sampler: Sampler = GREEDY,
    seed: int = 0,
    stop: Sequence[str] = (),
    *,
    generation: Generation | None = None,
    tokenizer: Tokenizer | None = None,
    adapter: Choice | EllipsisType = ...,
) -> Iterator[str]:
    """Continues one prompt and gives the text piece by piece; joined, `generate_text`'s result.

    No piece is empty or ends within a character, and what may be the beginning of a stop string is
    held back until it is known. Arguments and errors are `generate_text`'s; mistakes are raised at
    the call, not at the first piece. `adapter` is the one that the prompt is continued under to its
    end, whatever is chosen meanwhile; without it that is what `set_adapter` chose.
    """
    given = generation_of(generation, max_new_tokens, sampler, seed, stop)
    adapters = None if isinstance(adapter, EllipsisType) else [adapter]
    streams = stream_texts(model, [prompt], given, adapters=adapters, tokenizer=tokenizer)
    return (piece for (piece,) in streams if piece)


def stream_texts(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    generation: Generations,
    *,
    adapters: Sequence[Choice] | None = None,
    tokenizer: Tokenizer | None = None,
) -> Iterator[list[str]]:
    """Continues several prompts in one batch and gives what each has got since, as they come.

    Each becomes what `stream_text` would make of it alone; a piece is empty where nothing came.
    Arguments and errors are `generate_text`'s, raised at the call.
    """
    tokenizer = tokenizer or model.tokenizer
    generations = one_each(generation, len(prompts))
    ids = prompt_ids(model, prompts, generations, tokenizer)
    gate = gate_of(model, adapters, len(ids))
    rows = [Row(tokenizer, one) for one in generations]

    def pieces() -> Iterator[list[str]]:
        decoder = decoder_of(model, tokenizer.vocabulary, [tokenizer.end], gate is not None)
        batch = Batch(decoder, ids, [0] * len(ids), generations, gate)
        sent = [""] * len(ids)
        while not batch.done:
            advance(batch, rows, STREAM_CHUNK)
            texts = [row.settled_text() for row in rows]
            yield [text[len(old) :] for text, old in zip(texts, sent, strict=True)]
            # What is held back may be more than before: a stop string may have begun.
            sent = [max(pair, key=len) for pair in zip(texts, sent, strict=True)]

    return pieces()


def advance(batch: Batch, rows: Sequence[Row], count: int) -> None:
    """Adds up to `count` tokens of a batch to its rows; those that end in text end in the batch."""
    for row, tokens in zip(rows, batch.advance(count), strict=True):
        row.add(tokens.tolist())
    batch.finish([row.ended is not None for row in rows])


def batches(
    ids: Sequence[Sequence[int]], generations: Sequence[Generation], batch_size: int
) -> Iterator[list[int]]:
    """The prompts' numbers, batch by batch; whoever has a sampler of his own shares it in one.

    Prompts of like length go together, so that little is computed for padding.
    """
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    for sampler in dict.fromkeys(generation.sampler for generation in generations):
        numbers = [number for number in order if generations[number].sampler == sampler]
        for first in range(0, len(numbers), batch_size):
            yield numbers[first : first + batch_size]


def generation_of(
    generation: Generations | None,
    max_new_tokens: int,
    sampler: Sampler,
    seed: int,
    stop: Sequence[str],
) -> Generations:
    """The generation that is given, or the one that the other arguments say.

    Raises:
        UserError: both are given, or one of the others is out of its range.
    """
    others = Generation(sampler=sampler, seed=seed, stop=stop, max_new_tokens=max_new_tokens)
    if generation is None:
        return others
    if others != Generation():
        raise UserError("generation has max_new_tokens, sampler, seed and stop: give them there")
    return generation


def one_each(given: Generations, count: int) -> list[Generation]:
    """A generation for each of `count` prompts. Raises UserError where there are more or fewer."""
    if isinstance(given, Generation):
        return [given] * count
    if not isinstance(given, Sequence) or not all(isinstance(one, Generation) for one in given):
        raise UserError(f"generation must be a Generation, or a list of them, not {given!r}")
    if len(given) != count:
        raise UserError(f"{len(given)} generations for {count} prompts: give one, or one for each")
    return list(given)


def prompt_ids(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    generations: Sequence[Generation],
    tokenizer: Tokenizer,
    first_number: int = 0,
) -> list[list[int]]:
    """The prompts as token ids; errors count them from `first_number` + 1.

    Raises:
        UserError: a prompt is empty, too long together with its new tokens, or holds an id that is
            not in the model's vocabulary.
    """
    config, result = model.config.decoder, []
    for number, (prompt, generation) in enumerate(
        zip(prompts, generations, strict=True), start=first_number + 1
    ):
        if isinstance(prompt, str):
            ids = list(begun(tokenizer.encode(prompt), tokenizer))
        else:
            ids = [int(id) for id in prompt]
        new = generation.max_new_tokens
        if not ids:
            raise UserError(f"prompt {number} is empty")
        if len(ids) + new > config.positions:
            raise UserError(
                f"prompt {number} has {len(ids):,} tokens and {new:,} new ones are asked"
                f" for: {len(ids) + new:,} are more than the model's"
                f" {config.positions:,} positions"
            )
        if not 0 <= min(ids) <= max(ids) < config.vocabulary:
            raise UserError(f"prompt {number} holds a token id outside 0..{config.vocabulary - 1}")
        result.append(ids)
    return result
