"""A request's body: JSON from anybody, held against a table of what its fields may be."""

import json
import math
from collections.abc import Mapping
from typing import Any

from gpt2_tuning import schema
from gpt2_tuning.checks import SHOWN, is_text, is_whole, shown
from gpt2_tuning.flags import advice
from gpt2_tuning.inference.embedding import POOLINGS
from gpt2_tuning.inference.generation_settings import RANGES
from gpt2_tuning.schema import SWITCH, TEXT, Rule, Schema, or_null, whole
from gpt2_tuning.serving.refusal import wrong

MOST_ANSWERS = 128
MOST_SCORES = 20
"""Of likelier tokens beside each."""
STOPS, STOP_CHARACTERS = 16, 1000
IGNORED = ("user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key")
"""Fields that mean something to OpenAI alone, and change no answer."""
REFUSED: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("tools", "functions", "logit_bias"), (None, [], {})),
    **dict.fromkeys(("tool_choice", "function_call"), (None, "none")),
    "response_format": (None, {"type": "text"}),
    "suffix": (None, ""),
    **dict.fromkeys(("modalities", "audio", "prediction", "reasoning_effort"), (None,)),
    "parallel_tool_calls": (None, True, False),
}
"""Fields that would change the answer, with the values in which they do not."""


def is_stop(value: Any) -> bool:
    """Whether a value is a stop string, or a few of them."""
    stops = [value] if is_text(value) else value
    return isinstance(stops, list) and len(stops) <= STOPS and all(
        is_text(stop) and 0 < len(stop) <= STOP_CHARACTERS for stop in stops
    )  # fmt: skip


def is_ids(value: Any) -> bool:
    """Whether a value is a list of whole numbers, at least one."""
    return isinstance(value, list) and bool(value) and all(is_whole(one, 0) for one in value)


def is_input(value: Any) -> bool:
    """Whether a value is a text, token ids, or a list of texts or of lists of ids."""
    several = isinstance(value, list) and bool(value) and len(value) <= 4 * MOST_ANSWERS
    texts = several and all(map(is_text, value))
    return is_text(value) or is_ids(value) or texts or (several and all(map(is_ids, value)))


def is_labelled(value: Any) -> bool:
    """Whether a value is a text, or a list of texts or of pairs of texts."""
    if is_text(value):
        return True
    if not isinstance(value, list) or not 0 < len(value) <= 4 * MOST_ANSWERS:
        return False
    pairs = [one for one in value if isinstance(one, list)]
    if pairs:
        return len(pairs) == len(value) and all(
            len(pair) == 2 and all(map(is_text, pair)) for pair in pairs
        )
    return all(map(is_text, value))


def of_range(name: str) -> Rule:
    """What a field of a Generation may be, or nothing."""
    return or_null(Rule(*RANGES[name]))


INPUT = Rule(is_input, "a text, a list of texts, or token ids")
OBJECT = Rule(lambda value: isinstance(value, dict), "an object")
GENERATED: Schema = {
    "max_tokens": or_null(whole(1, 2**31 - 1)),
    "temperature": or_null(
        schema.number(lambda t: t == 0 or 1e-4 <= t <= 100, "that is 0, or from 0.0001 to 100")
    ),
    "repetition_penalty": or_null(schema.number(lambda r: 0.01 <= r <= 100, "from 0.01 to 100")),
    **{
        name: of_range(name)
        for name in (
            *("top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"),
            *("no_repeat_ngram", "seed"),
        )
    },
    "n": or_null(whole(1, MOST_ANSWERS)),
    "stop": or_null(
        Rule(is_stop, f"a text or up to {STOPS}, of 1 to {STOP_CHARACTERS} characters")
    ),
    "stream": or_null(SWITCH),
    "stream_options": or_null(OBJECT),
}
COMPLETION: Schema = {
    "model": TEXT,
    "prompt": INPUT,
    **GENERATED,
    "logprobs": or_null(whole(0, MOST_SCORES)),
    "echo": or_null(SWITCH),
    "best_of": or_null(whole(1, MOST_ANSWERS)),
}
CHAT: Schema = {
    "model": TEXT,
    "messages": Rule(lambda value: isinstance(value, list) and bool(value), "a list of messages"),
    **GENERATED,
    "max_completion_tokens": or_null(whole(1, 2**31 - 1)),
    "logprobs": or_null(SWITCH),
    "top_logprobs": or_null(whole(0, MOST_SCORES)),
}
CLASSIFY: Schema = {
    "model": TEXT,
    "input": Rule(is_labelled, "a text, a list of texts, or a list of pairs of texts"),
}
EMBED: Schema = {
    "model": TEXT,
    "input": INPUT,
    "encoding_format": or_null(Rule(lambda f: f in ("float", "base64"), "float or base64")),
    "pooling": or_null(Rule(lambda value: value in POOLINGS, "last or mean")),
    "dimensions": or_null(whole(1, 2**31 - 1)),
}
NEEDED = ("model", "prompt", "messages", "input")


def parsed(content: bytes) -> dict[str, Any]:
    """The object that a body is.

    Raises:
        Refusal: it is no JSON, or none that can be worked with.
    """
    try:
        body = json.loads(content.decode("utf-8"), parse_constant=refuse_constant)
        # Halves of surrogate pairs, which escapes can write, are no text.
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise wrong("the body holds half a surrogate pair, which is no character") from error
    except (ValueError, RecursionError) as error:
        said = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise wrong(f"the body is no JSON that can be read: {said[:200]}") from error
    if not isinstance(body, dict):
        raise wrong(f"the body must be an object, not {shown(body)}")
    return body


def refuse_constant(name: str) -> float:
    """Raises ValueError: NaN and infinities are no JSON."""
    raise ValueError(f"{name} is no number of JSON's")


def checked(body: Mapping[str, Any], table: Schema) -> dict[str, Any]:
    """The fields of a body that count, those that are null left out.

    Raises:
        Refusal: one is missing, unknown or not what it must be; it names the field.
    """
    for name in NEEDED:
        if name in table and name not in body:
            raise wrong(f"{name} must be given", name)
    for name, value in body.items():
        if name in IGNORED:
            continue
        if name in REFUSED:
            if value not in REFUSED[name]:
                raise wrong(f"{name} is not supported here: leave it out", name)
        elif name not in table:
            known = advice(name[:SHOWN], table)
            raise wrong(f"unknown field {shown(name)}{known}", name[:SHOWN], "unknown_field")
        elif not table[name].holds(value):
            raise wrong(schema.must_be(name, table[name].words, value), name)
    return {name: body[name] for name in table if body.get(name) is not None}


def finite(value: float) -> float | None:
    """A number as JSON can have it: None in place of one that is infinite or none."""
    return value if math.isfinite(value) else None
