"""Labels for texts and for pairs of texts, from a tuned classifier."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gpt2_tuning.data.batch_arrays import padded
from gpt2_tuning.data.batches import choose_buckets, plan_in_order
from gpt2_tuning.data.examples import joined_pair
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.data.tokenizer import begun
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.row_adapters import gate_of
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.gate import Choice


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The likeliest class, and every class's probability in the order of the model's labels."""

    label: str
    probabilities: dict[str, float]


def classify_text(
    model: Classifier,
    texts: Sequence[str],
    batch_size: int = 32,
    seq_len: int | None = None,
    *,
    adapters: Sequence[Choice] | None = None,
) -> list[Prediction]:
    """Labels texts.

    Args:
        model: a tuned classifier.
        texts: none of them empty.
        batch_size: how many are computed together; it does not change the result.
        seq_len: longer texts are cut to this many tokens; None is the model's own limit.
        adapters: for each text the adapter that labels it, a dict of several with their shares, or
            None for the base: all are computed together, each with its own head and classes.
            Without it that is what the model's `set_adapter` chose.

    Raises:
        UserError: a text is empty, or there is no such adapter.
    """
    return classify(model, [(text,) for text in texts], batch_size, seq_len, adapters=adapters)


def classify_pairs(
    model: Classifier,
    pairs: Sequence[tuple[str, str]],
    batch_size: int = 32,
    seq_len: int | None = None,
    *,
    adapters: Sequence[Choice] | None = None,
) -> list[Prediction]:
    """Labels pairs of texts, such as a premise and a hypothesis.

    Args:
        model: a classifier tuned on pairs.
        pairs: the two texts of each, none of them empty.
        batch_size: how many are computed together; it does not change the result.
        seq_len: the longer text of a pair above this many tokens is trimmed, as in preparation;
            None is the model's own limit.
        adapters: as for `classify_text`.

    Raises:
        UserError: a text is empty, or there is no such adapter.
    """
    return classify(model, pairs, batch_size, seq_len, adapters=adapters)


def classify(
    model: Classifier,
    examples: Sequence[tuple[str, ...]],
    batch_size: int = 32,
    seq_len: int | None = None,
    first_row: int = 0,
    adapters: Sequence[Choice] | None = None,
) -> list[Prediction]:
    """Labels examples of one text each, or of two each; see `classify_text`, `classify_pairs`.

    Where they are part of a file, `first_row` is how many of its rows come before them.

    Raises:
        UserError: a text is empty, or the scores of a row are not finite.
    """
    rows = token_rows(model, examples, seq_len)
    gate = gate_of(model, adapters, len(examples))
    records = Records.of(rows, model.tokenizer.pad)
    probabilities = predict_probabilities(model, records, batch_size, first_row, gate)
    if adapters is None:
        return as_predictions(probabilities, [model.chosen_label_names()] * len(records))
    return as_predictions(probabilities, [model.chosen_label_names(one) for one in adapters])


def token_rows(
    model: Classifier, examples: Sequence[tuple[str, ...]], seq_len: int | None = None
) -> list[Sequence[int]]:
    """The token ids of examples as `classify` reads them. Raises UserError of an empty text."""
    for number, texts in enumerate(examples, start=1):
        if not all(text.strip() for text in texts):
            raise UserError(f"{'text' if len(texts) == 1 else 'a text of pair'} {number} is empty")
    limit = seq_len or model.config.decoder.positions
    tokenizer = model.tokenizer
    encoded: list[list[Sequence[int]]] = [
        list(tokenizer.encode_batch(texts)) for texts in zip(*examples, strict=True)
    ]
    if encoded:
        encoded[0] = [begun(ids, tokenizer) for ids in encoded[0]]
    return [joined(ids, limit, tokenizer.separator) for ids in zip(*encoded, strict=True)]


def joined(ids: Sequence[Sequence[int]], limit: int, separator: int) -> Sequence[int]:
    """The tokens of one text, or of a pair, as preparation would store them."""
    if len(ids) == 1:
        return ids[0][:limit]
    premise, hypothesis = ids
    return joined_pair(premise, hypothesis, limit, separator)


def as_predictions(probabilities: np.ndarray, names: Sequence[list[str]]) -> list[Prediction]:
    """Probabilities [N, classes] with the names of each row's; further ones are 0."""
    return [
        Prediction(
            label=classes[int(np.argmax(row))],
            probabilities=dict(zip(classes, map(float, row[: len(classes)]), strict=True)),
        )
        for row, classes in zip(probabilities, names, strict=True)
    ]


def predict_probabilities(
    model: Classifier,
    records: Records,
    batch_size: int = 32,
    first_row: int = 0,
    gate: np.ndarray | None = None,
) -> np.ndarray:
    """The classes' probabilities for every row, float32 [N, classes], in the rows' order.

    `gate` is that of rows with adapters of their own. Where adapters were added, there are as many
    columns as one of them has classes at most.

    Raises:
        UserError: the scores of a row are not finite; rows are counted from `first_row` + 1.
    """
    result = np.zeros((len(records), model.most_classes), np.float32)
    if not len(records):
        return result
    buckets = choose_buckets(records.lengths)
    for planned in plan_in_order(records.lengths, buckets, batch_size):
        inputs = padded(records, planned, len(planned.rows))
        if gate is None:
            logits = model.forward(inputs).numpy()
        else:
            logits = model.forward_by_row({**inputs, "gate": gate[planned.rows]}).numpy()
        check_finite(logits, planned.rows + first_row + 1)
        result[planned.rows] = softmax(logits)
    return result


def check_finite(logits: np.ndarray, numbers: np.ndarray) -> None:
    """Raises UserError, naming the first of the rows, where scores [B, classes] are not finite."""
    wrong = numbers[~np.isfinite(logits).all(axis=1)]
    if len(wrong):
        raise UserError(
            f"the model's scores of row {wrong.min()} are not finite: its weights are damaged or "
            "its training went wrong, so train it again, with a lower --learning_rate"
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
