"""From texts to a tf.data.Dataset that `model.fit` takes, batched as the scripts batch.

Each function takes these:

* `batch_size`: examples in a batch; in packed rows of a language model, rows.
* `seq_len`: the longest example, in tokens, at most as many as the model has positions. What does
  not fit is cut as in preparation; an instruction that cannot be cut to fit is left out, and said.
* `layout`: `buckets` pads each batch to one of at most 12 lengths, `padded` all of them to the
  longest example, `packed` puts several examples into a row.
* `shuffle`: whether the n-th pass over the dataset has the order that follows from (seed, n);
  without, every pass has the same order, the shortest rows first.
* `seed`: of that order.
* `tokenizer`: that of the model; None is GPT-2's.

An element is (inputs, labels), or (inputs, labels, weights) where there are places without a
label; `batch_arrays.Batch` says what is in them. The number of batches is known, as `cardinality`.
"""

import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from gpt2_tuning.data.batch_arrays import PlannedBatch, language_model_batch
from gpt2_tuning.data.batches import BUCKETS, BatchSource
from gpt2_tuning.data.documents import found_documents
from gpt2_tuning.data.examples import Dropped, Example, pair_example, text_example
from gpt2_tuning.data.given_lists import check_as_many, checked_texts, class_numbers
from gpt2_tuning.data.packed_examples import PackedExamples
from gpt2_tuning.data.packing import PackedSource
from gpt2_tuning.data.pieces import document_examples
from gpt2_tuning.data.prompts import Template, instruction_examples, load_template
from gpt2_tuning.data.texts import Texts
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.data.tokenizer import Tokenizer, default_tokenizer
from gpt2_tuning.data.words import WordTokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.known import MAX_SEQ_LEN

Layout = Literal["padded", "buckets", "packed"]
BUCKET_COUNTS = {"padded": 1, "buckets": BUCKETS}


def classification_dataset(
    texts: Sequence[str],
    labels: Sequence[str] | Sequence[int] | np.ndarray,
    label_names: Sequence[str] | None = None,
    *,
    batch_size: int = 16,
    seq_len: int = MAX_SEQ_LEN,
    layout: Layout = "buckets",
    shuffle: bool = True,
    seed: int = 0,
    tokenizer: Tokenizer | None = None,
) -> tf.data.Dataset:
    """Batches of texts with a class each, for a GPT2Classifier.

    Args:
        texts: none of them empty.
        labels: a class for each, as a name or as an integer from 0.
        label_names: the classes in the order of the model's scores, `model.label_names`; needed
            where labels are names.
        batch_size, seq_len, layout, shuffle, seed, tokenizer: see the top of this module.

    Raises:
        UserError: a text is empty, a label is unknown, or there are not as many of both.
    """
    check(batch_size, seq_len, layout)
    texts = checked_texts("text", texts)
    words = WordTokenizer(tokenizer or default_tokenizer())
    ids = words.encode_first(texts)
    numbers = class_numbers(labels, label_names, "text", len(texts))
    examples = (text_example(*row, seq_len) for row in zip(ids, numbers, strict=True))
    return labelled(records_of(examples, words), batch_size, layout, shuffle, seed)


def pair_dataset(
    pairs: Sequence[tuple[str, str]],
    labels: Sequence[str] | Sequence[int] | np.ndarray,
    label_names: Sequence[str] | None = None,
    *,
    batch_size: int = 16,
    seq_len: int = MAX_SEQ_LEN,
    layout: Layout = "buckets",
    shuffle: bool = True,
    seed: int = 0,
    tokenizer: Tokenizer | None = None,
) -> tf.data.Dataset:
    """Batches of pairs of texts with a class each, for a GPT2Classifier.

    Args:
        pairs: two texts each, such as a premise and a hypothesis, none of them empty.
        labels, label_names: as in `classification_dataset`.
        batch_size, seq_len, layout, shuffle, seed, tokenizer: see the top of this module; seq_len
            is at least 3.

    Raises:
        UserError: as `classification_dataset`, or a pair has not two texts.
    """
    check(batch_size, seq_len, layout, shortest=3)
    for number, pair in enumerate(pairs, start=1):
        if isinstance(pair, str) or len(pair) != 2:
            raise UserError(f"pair {number} must be two texts")
    words = WordTokenizer(tokenizer or default_tokenizer())
    sides = (
        checked_texts(f"{which} text of pair", [pair[side] for pair in pairs])
        for side, which in enumerate(("first", "second"))
    )
    premises, hypotheses = words.encode_first(next(sides)), words.encode_batch(next(sides))
    numbers = class_numbers(labels, label_names, "pair", len(pairs))
    rows = zip(premises, hypotheses, numbers, strict=True)
    examples = (pair_example(*row, seq_len, words.tokenizer.separator) for row in rows)
    return labelled(records_of(examples, words), batch_size, layout, shuffle, seed)


def instruction_dataset(
    instructions: Sequence[str],
    responses: Sequence[str],
    contexts: Sequence[str | None] | None = None,
    *,
    template: str | Template = "dolly",
    batch_size: int = 16,
    seq_len: int = MAX_SEQ_LEN,
    layout: Layout = "buckets",
    shuffle: bool = True,
    seed: int = 0,
    tokenizer: Tokenizer | None = None,
) -> tf.data.Dataset:
    """Batches of instructions for a GPT2LanguageModel, which learns the responses and their end.

    Args:
        instructions: none of them empty.
        responses: one for each, none of them empty.
        contexts: what each is about; None, or a None or an empty text among them, is nothing.
        template: `dolly`, `alpaca`, a text file, or a Template.
        batch_size, seq_len, layout, shuffle, seed, tokenizer: see the top of this module.

    Raises:
        UserError: a text is empty, there are not as many of each, the template cannot be used, or
            no example fits `seq_len`.
    """
    check(batch_size, seq_len, layout)
    if not isinstance(template, Template):
        template = load_template(template)
    instructions = checked_texts("instruction", instructions)
    responses = checked_texts("response", responses)
    check_as_many("response", len(responses), "instruction", len(instructions))
    if contexts is None:
        contexts = [""] * len(instructions)
    elif not template.has_context:
        raise UserError(f"template {template.name} has no {{context}}: leave contexts out")
    check_as_many("context", len(contexts), "instruction", len(instructions))
    words = WordTokenizer(tokenizer or default_tokenizer())
    made = list(instruction_examples(instructions, contexts, responses, template, seq_len, words))
    kept = [example for example in made if not isinstance(example, Dropped)]
    if not kept:
        raise UserError(f"no example fits seq_len {seq_len}: raise it, or shorten the texts")
    if len(kept) < len(made):
        left_out = f"{len(made) - len(kept)} of {len(made)} examples"
        print(f"note: {left_out} do not fit seq_len {seq_len} and are left out", file=sys.stderr)
    return supervised(records_of(kept, words), batch_size, seq_len, layout, shuffle, seed)


def text_dataset(
    texts: Sequence[str],
    *,
    batch_size: int = 16,
    seq_len: int = MAX_SEQ_LEN,
    layout: Layout = "buckets",
    shuffle: bool = True,
    seed: int = 0,
    tokenizer: Tokenizer | None = None,
) -> tf.data.Dataset:
    """Batches of plain text for a GPT2LanguageModel, which learns every token and each text's end.

    Args:
        texts: documents, none of them empty; long ones become several examples.
        batch_size, seq_len, layout, shuffle, seed, tokenizer: see the top of this module; seq_len
            is at least 3.

    Raises:
        UserError: a text is empty.
    """
    check(batch_size, seq_len, layout, shortest=3)
    words = WordTokenizer(tokenizer or default_tokenizer())
    documents = found_documents(Texts.of(checked_texts("text", texts)))
    made = document_examples(documents, words, seq_len)
    records = records_of((one for one in made if isinstance(one, Example)), words)
    return supervised(records, batch_size, seq_len, layout, shuffle, seed)


def check(batch_size: int, seq_len: int, layout: str, shortest: int = 1) -> None:
    """Raises UserError where an argument is out of its range."""
    for name, value, least in (("batch_size", batch_size, 1), ("seq_len", seq_len, shortest)):
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}")
    if layout not in (*BUCKET_COUNTS, "packed"):
        raise UserError(f"unknown layout {layout!r}: choose padded, buckets or packed")


def labelled(
    records: Records, batch_size: int, layout: Layout, shuffle: bool, seed: int
) -> tf.data.Dataset:
    """Batches of examples that have a `label`."""
    if layout == "packed":
        return batched(PackedExamples(records, batch_size), shuffle, seed)
    source = BatchSource(records, batch_size, bucket_count=BUCKET_COUNTS[layout])
    # Every row of these has a label, so nothing need be said of weights: `fit` takes class_weight.
    return batched(source, shuffle, seed, weighted=False)


def supervised(
    records: Records, batch_size: int, seq_len: int, layout: Layout, shuffle: bool, seed: int
) -> tf.data.Dataset:
    """Batches of examples that have a `prompt_length`."""
    if layout == "packed":
        return batched(PackedSource(records, batch_size, row_length=seq_len), shuffle, seed)
    made = BatchSource(records, batch_size, language_model_batch, BUCKET_COUNTS[layout])
    return batched(made, shuffle, seed)


def records_of(examples: Iterable[Example], words: WordTokenizer) -> Records:
    """The examples, at least one, with their extras; all have the same."""
    examples = list(examples)
    columns = {
        name: np.array([example.extras[name] for example in examples], np.int32)
        for name in examples[0].extras
    }
    return Records.of([one.token_ids for one in examples], words.tokenizer.pad, **columns)


def batched(
    source: BatchSource, shuffle: bool, seed: int, weighted: bool = True
) -> tf.data.Dataset:
    """The batches of a source; a batch has only rows that hold an example, where each has one."""
    passes = itertools.count()

    def made(planned: PlannedBatch) -> tuple:
        rows = planned.row_count or len(planned.rows)
        batch = source.make_batch(source.records, planned, rows)
        return (batch.inputs, batch.targets, *([batch.weights] if weighted else []))

    def batches() -> Iterator[tuple]:
        return map(made, source.plan(seed, next(passes)) if shuffle else source.plan_in_order())

    def spec(array: np.ndarray) -> tf.TensorSpec:
        return tf.TensorSpec([None] * array.ndim, array.dtype)

    signature = tf.nest.map_structure(spec, made(source.plan_in_order()[0]))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    known = tf.data.experimental.assert_cardinality(source.steps)
    return dataset.apply(known).prefetch(tf.data.AUTOTUNE)
