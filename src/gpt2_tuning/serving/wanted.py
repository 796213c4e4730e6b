"""What a request for text comes to: rows for the engine, and how their answers are to be told."""

import dataclasses
import math
import secrets
from collections.abc import Mapping
from typing import Any

from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.serving import body
from gpt2_tuning.serving.prompts import chat_prompt, ids_of
from gpt2_tuning.serving.refusal import unknown_model, wrong
from gpt2_tuning.serving.rows import Asked
from gpt2_tuning.serving.served import Named, Served

USUAL = {"temperature": 1.0, "top_p": 1.0}
"""What OpenAI's API takes where a request does not say."""
USUAL_TOKENS = 16
"""Of a completion; an answer in a conversation may be as long as there is room."""
SAME = (
    *("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty"),
    *("frequency_penalty", "no_repeat_ngram"),
)
"""Fields that are a Generation's, by the same names."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one request may ask for."""

    max_tokens: int | None = None
    """New tokens of an answer; None is as many as the model has positions for."""
    max_body: int = 1 << 20
    """Bytes."""
    timeout: float = 600.0
    """Seconds until its answer must be there."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Answers that are wanted."""

    model: Named
    rows: list[Asked]
    """n for each prompt, in order."""
    prompts: list[list[int]]
    chat: bool
    stream: bool
    usage: bool
    """Whether a stream ends with the counts of tokens."""
    scored: int | None
    """As Asked's."""
    echo: list[str] | None = None
    """The prompts' texts, where each answer begins with them."""

    @property
    def answers_each(self) -> int:
        """How many answers a prompt gets."""
        return len(self.rows) // len(self.prompts)


def model_of(fields: Mapping[str, Any], served: Served) -> Named:
    """The model that is asked for. Raises Refusal where there is none of that name."""
    name = fields["model"]
    if name not in served.models:
        raise unknown_model(name[:200])
    return served.models[name]


def writing_model(fields: Mapping[str, Any], served: Served) -> Named:
    """The same, which must write. Raises Refusal."""
    model = model_of(fields, served)
    if served.language_model is None:
        raise wrong(f"the model `{model.name}` labels texts: ask /v1/classify", "model")
    return model


def completion(given: Mapping[str, Any], served: Served, limits: Limits) -> Wanted:
    """What the body of a request to /v1/completions asks for. Raises Refusal."""
    fields = body.checked(given, body.COMPLETION)
    model = writing_model(fields, served)
    vocabulary = served.model.config.decoder.vocabulary
    prompts = ids_of(fields["prompt"], "prompt", served.tokenizer, vocabulary)
    if fields.get("best_of", 1) > fields.get("n", 1):
        raise wrong("best_of above n is not supported here: leave it out", "best_of")
    scored, most = fields.get("logprobs"), fields.get("max_tokens", USUAL_TOKENS)
    wanted = wanted_of(
        fields, model, prompts, (most, "max_tokens", "prompt"), scored, served, limits
    )
    if not fields.get("echo"):
        return wanted
    decode, known = served.tokenizer.decode, served.tokenizer.vocabulary
    if max(map(max, prompts)) >= known:
        raise wrong(f"echo: the prompt holds a token id outside 0..{known - 1}", "prompt")
    return dataclasses.replace(wanted, echo=[decode(ids) for ids in prompts])


def chat(given: Mapping[str, Any], served: Served, limits: Limits) -> Wanted:
    """What the body of a request to /v1/chat/completions asks for. Raises Refusal."""
    fields = body.checked(given, body.CHAT)
    model = writing_model(fields, served)
    if "top_logprobs" in fields and not fields.get("logprobs"):
        raise wrong("top_logprobs needs logprobs to be true", "top_logprobs")
    scored = fields.get("top_logprobs", 0) if fields.get("logprobs") else None
    prompt = chat_prompt(model, fields["messages"], served.tokenizer)
    field = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
    most = fields.get(field)
    if most is None:
        room = max(served.positions - len(prompt), 1)
        most = min(room, limits.max_tokens or room)
    asked = wanted_of(fields, model, [prompt], (most, field, "messages"), scored, served, limits)
    return dataclasses.replace(asked, chat=True)


def wanted_of(
    fields: Mapping[str, Any],
    model: Named,
    prompts: list[list[int]],
    length: tuple[int, str, str],
    scored: int | None,
    served: Served,
    limits: Limits,
) -> Wanted:
    """The answers to prompts.

    Args:
        fields: the body's, checked.
        model, prompts: what goes on, and from where.
        length: the most new tokens, the field that says it, and the one that has the prompt.
        scored: as Asked's.
        served: what there is.
        limits: of a request.

    Raises:
        Refusal: an answer would be too long, or fields do not go together.
    """
    most, field, prompt_field = length
    if limits.max_tokens is not None and most > limits.max_tokens:
        raise wrong(f"{field} must be at most {limits.max_tokens:,} here, not {most:,}", field)
    longest = max(map(len, prompts))
    if longest + most > served.positions:
        raise wrong(
            f"this model's context has {served.positions:,} tokens: {prompt_field} has {longest:,} "
            f"and {field} asks for {most:,} more",
            prompt_field if longest >= served.positions else field,
            "context_length_exceeded",
        )
    stream = fields.get("stream", False)
    if "stream_options" in fields and not stream:
        raise wrong("stream_options needs stream to be true", "stream_options")
    generation = Generation(
        **{**USUAL, **{name: fields[name] for name in SAME if name in fields}},
        seed=fields["seed"] if "seed" in fields else secrets.randbits(63),
        max_new_tokens=most,
        stop=fields.get("stop", ()),
    )
    each = fields.get("n", 1)
    # One copy of a prompt for all its answers: of a body there may be a hundred times 500 KB.
    rows = [
        Asked(ids, generation, model.adapter, place * each + number, scored, stream)
        for place, ids in enumerate(map(tuple, prompts))
        for number in range(each)
    ]
    usage = fields.get("stream_options", {}).get("include_usage") is True
    return Wanted(model, rows, prompts, False, stream, usage, scored)


def until(wanted: Wanted, deadline: float = math.inf) -> list[Asked]:
    """The rows, which end as late at a deadline."""
    return [dataclasses.replace(row, deadline=deadline) for row in wanted.rows]
