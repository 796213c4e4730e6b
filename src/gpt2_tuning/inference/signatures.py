"""What an exported graph answers: functions of tensors alone, from texts or token ids.

Texts are tokenised as elsewhere, but by TensorFlow's operations, so that a graph needs neither this
library nor any other.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from gpt2_tuning.data import graph_tokenizer
from gpt2_tuning.data.tokenizer import Tokenizer
from gpt2_tuning.inference.choices import Choices
from gpt2_tuning.inference.choosing import RowValues
from gpt2_tuning.inference.decoding import Decoder
from gpt2_tuning.inference.penalties import NO_TOKEN
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.language_model import LanguageModel

TEXTS = tf.TensorSpec([None], tf.string)
ROWS = tf.TensorSpec([None, None], tf.int32)
TOKENS = {"token_ids": ROWS, "attention_mask": ROWS}
"""What is given where there is no tokenizer in the graph: ids, and 1 for each that counts."""

Tensors = Mapping[str, tf.Tensor]
Compose = Callable[[Tensors], tf.Tensor]
"""From texts that are given, string [B] each, to what the model reads."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of a graph."""

    inputs: Mapping[str, tf.TensorSpec]
    answer: Callable[[Tensors], Tensors]


def labels_of_texts(
    model: Classifier, names: Sequence[str], seq_len: int, separator: int
) -> Signature:
    """Labels texts, or pairs of texts, as `classify` does.

    Args:
        model: a classifier.
        names: what the one or two texts are called.
        seq_len: longer ones are cut to this many tokens, as in preparation.
        separator: the token between the texts of a pair.
    """

    def answer(texts: Tensors) -> Tensors:
        ids = [with_tokens(graph_tokenizer.encode(texts[name]), name) for name in names]
        return labels(model, padded(joined(ids, seq_len, separator)))

    return Signature(dict.fromkeys(names, TEXTS), answer)


def labels_of_tokens(model: Classifier) -> Signature:
    """Labels rows of token ids that are padded on the right."""
    return Signature(TOKENS, lambda tokens: labels(model, tokens))


def labels(model: Classifier, inputs: Tensors) -> Tensors:
    """The likeliest class of each row, string [B], and all: float32 and string [B, classes]."""
    names = tf.constant(model.label_names)
    probabilities = tf.nn.softmax(model(dict(inputs), training=False))
    return {
        "label": tf.gather(names, tf.argmax(probabilities, axis=1)),
        "probabilities": probabilities,
        "classes": tf.broadcast_to(names, tf.shape(probabilities)),
    }


def written_text(
    model: LanguageModel, names: Sequence[str], compose: Compose, strip: bool, max_new_tokens: int
) -> Signature:
    """Continues prompts with the likeliest tokens, as `generate_text` does.

    Args:
        model: a language model with GPT-2's tokenizer.
        names: of the texts that are given.
        compose: makes prompts of them.
        strip: whether blank space around an answer is not kept.
        max_new_tokens: the most tokens of an answer.
    """

    def answer(texts: Tensors) -> Tensors:
        ids = with_tokens(graph_tokenizer.encode(compose(texts)), " or ".join(names))
        tokens, kept = continued(model, padded(ids), model.tokenizer, max_new_tokens)
        text = graph_tokenizer.decode(tokens, kept)
        return {"text": stripped(text) if strip else text}

    return Signature(dict.fromkeys(names, TEXTS), answer)


def written_tokens(model: LanguageModel, max_new_tokens: int) -> Signature:
    """Continues rows of token ids; `attention_mask` of the answer says which of its ids count."""

    def answer(inputs: Tensors) -> Tensors:
        tokens, kept = continued(model, inputs, model.tokenizer, max_new_tokens)
        ids = tf.where(kept, tokens, model.tokenizer.pad)
        return {"token_ids": ids, "attention_mask": tf.cast(kept, tf.int32)}

    return Signature(TOKENS, answer)


def continued(
    model: LanguageModel, inputs: Tensors, tokenizer: Tokenizer, max_new_tokens: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The new tokens, int32 [B, n], and which of them come before a row's end, bool [B, n].

    Args:
        model: a language model.
        inputs: `token_ids` and `attention_mask`, int32 [B, T], padded on either side.
        tokenizer: says how many ids there are, and which one ends a text.
        max_new_tokens: at least 1.
    """
    real = tf.cast(inputs["attention_mask"], tf.bool)
    lengths = tf.reduce_sum(tf.cast(real, tf.int32), axis=1)
    room = model.config.decoder.positions - max_new_tokens
    long = f"a prompt has more tokens than the {room} that leave room for an answer"
    checks = [
        tf.debugging.assert_less_equal(lengths, room, long),
        tf.debugging.assert_positive(lengths, "a prompt has no tokens"),
    ]
    # First, else what is computed of such prompts might fail before, and say less.
    with tf.control_dependencies(checks):
        real = tf.identity(real)
    # Prompts end in the last column, so that each is followed by its new tokens.
    rows = tf.ragged.boolean_mask(tf.reverse(inputs["token_ids"], [1]), tf.reverse(real, [1]))
    history = tf.reverse(rows.to_tensor(NO_TOKEN), [1])
    values = RowValues.of([Choices(max_new_tokens=max_new_tokens)])
    values = values.repeated(tf.shape(history)[0])
    vocabulary = min(tokenizer.vocabulary, model.config.decoder.vocabulary)
    decoder = Decoder(model, vocabulary, [tokenizer.end])
    tokens = decoder.continued(history, values, max_new_tokens)
    ended = tf.cumsum(tf.cast(tokens == tokenizer.end, tf.int32), axis=1)
    return tokens, ended == 0


# --- rows ----------------------------------------------------------------------------------------


def with_tokens(ids: tf.RaggedTensor, name: str) -> tf.RaggedTensor:
    """The same rows; a graph that has one without tokens refuses it by the name of its text."""
    check = tf.debugging.assert_positive(ids.row_lengths(), f"a text of {name} is empty")
    with tf.control_dependencies([check]):
        return ids.with_values(tf.identity(ids.values))


def joined(ids: Sequence[tf.RaggedTensor], seq_len: int, separator: int) -> tf.RaggedTensor:
    """One text, or the two of a pair with the separator, cut as `examples.joined_pair` cuts them.

    Args:
        ids: int32 [B, ragged], of each text.
        seq_len: the most tokens of a row.
        separator: a token id.
    """
    first, *others = ids
    if not others:
        return first[:, :seq_len]
    (second,) = others
    room = seq_len - 1
    lengths = tf.cast(first.row_lengths(), tf.int32), tf.cast(second.row_lengths(), tf.int32)
    kept = tf.minimum(lengths[0], tf.maximum(room - lengths[1], room // 2))
    between = tf.fill([tf.shape(kept)[0], 1], separator)
    parts = [beginnings(first, kept), between, beginnings(second, room - kept)]
    return tf.concat(parts, axis=1)


def beginnings(ids: tf.RaggedTensor, counts) -> tf.RaggedTensor:
    """The first tokens of each row, as many as int32 [B] says."""
    dense = ids.to_tensor()
    counts = tf.minimum(counts, tf.cast(ids.row_lengths(), tf.int32))
    return tf.RaggedTensor.from_tensor(dense, lengths=tf.cast(counts, tf.int64))


def padded(ids: tf.RaggedTensor) -> Tensors:
    """Rows as a model reads them, padded on the right."""
    mask = tf.sequence_mask(ids.row_lengths(), dtype=tf.int32)
    return {"token_ids": ids.to_tensor(), "attention_mask": mask}


BLANK = "".join(f"\\x{{{code:X}}}" for code in range(0x10000) if chr(code).isspace())


def stripped(texts) -> tf.Tensor:
    """Texts without the blank space at both ends, as Python's `strip`: string [B]."""
    return tf.strings.regex_replace(texts, f"^[{BLANK}]+|[{BLANK}]+$", "")
