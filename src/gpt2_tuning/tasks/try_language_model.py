"""What the `test` steps of language models share: a run's model writes, and is scored."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from gpt2_tuning import extras
from gpt2_tuning.baselines import frequency_figures, learnt_token_counts
from gpt2_tuning.data.chat_template import is_chat
from gpt2_tuning.data.column_names import usual_column
from gpt2_tuning.data.conversations import COLUMNS
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.row_files import column_names
from gpt2_tuning.data.tfrecords import Records
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import write_text
from gpt2_tuning.inference import responding
from gpt2_tuning.inference.answering import (
    Fields,
    InputColumns,
    asked,
    file_to_answer,
    readable,
)
from gpt2_tuning.inference.chatting import ChatResponder, responder_of, talk
from gpt2_tuning.inference.responding import Responder
from gpt2_tuning.metrics import scores_as_json, shown_interval
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.options.testing import GenerationOptions
from gpt2_tuning.runs import finished_run, tuned_model
from gpt2_tuning.text_metrics import mean_interval, rouge_l
from gpt2_tuning.training.language_model import language_model_scores, print_scores, score_section
from gpt2_tuning.training.layout import evaluation_batches
from gpt2_tuning.training.model_card import report_test_scores
from gpt2_tuning.training.objective import NextTokens
from gpt2_tuning.training.steps import StepFunctions, evaluate
from gpt2_tuning.training.strategy import make_strategy

ROUGE_ROWS = 50
"""Responses that --evaluate compares with the data's, unless --rouge_rows says otherwise."""


def try_language_model(
    options: GenerationOptions, task: str, examples: Sequence[Fields], columns: InputColumns
) -> None:
    """Rebuilds a run's model and does what the flags of a test.py ask for.

    Whatever is wrong with the flags, the texts or the files is found out before the model is made,
    but for the length of a prompt.

    Args:
        options: the flags.
        task: the task the run must be of.
        examples: what `--prompt` and its companions give.
        columns: those of --input that hold what an example has.

    Raises:
        UserError: the run, its data, a prompt or the input cannot be used.
    """
    run_dir = options.run_dir or tuned_model.run_of(options.adapter, task)
    run_dir = run_dir or finished_run.newest_run(task)
    metadata = finished_run.metadata_of_run(run_dir, task)
    tuned_model.round_as_in_training(run_dir)
    examples = [readable(fields, "--prompt") for fields in examples]
    records = None
    if options.evaluate:
        records = finished_run.split_of_run(run_dir, metadata, "test", options.dataset_dir)
    if is_chat(metadata.template) and options.input:
        columns = conversation_columns(options.input, columns)
    added = (responding.ADDED, responding.BATCHES_AT_ONCE)
    with file_to_answer(options, run_dir, metadata, columns, *added) as file:
        strategy = make_strategy(options.strategy)
        with strategy.scope():
            model = tuned_model.load_tuned(LanguageModel, run_dir, metadata.tokenizer)
            adapters = tuned_model.load_adapters(model, run_dir, options.adapter, task)
            alone = options.compare_base and not adapters
            base = base_of(model, run_dir) if alone else None
        responder = responder_of(model, metadata, options)
        if adapters:
            beside = {"base": None} if options.compare_base else {}
            responding.print_under_adapters(responder, {**beside, **adapters}, examples)
        elif base is not None:
            responding.print_compared(responder, base, examples)
        elif examples:
            responding.print_responses(responder, examples)
        if file:
            responder.answer_file(file)
    if records is not None:
        train_counts = train_token_counts(run_dir, metadata, options.dataset_dir)
        evaluate_run(responder, records, train_counts, run_dir, strategy, metadata.seq_len)
    if options.interactive:
        converse(responder, columns)


def converse(responder: Responder, columns: InputColumns) -> None:
    """Answers what is typed."""
    if isinstance(responder, ChatResponder):
        talk(responder)
        return
    for fields in asked(columns):
        responding.print_stream(responder, fields)


def conversation_columns(source: Path, columns: InputColumns) -> InputColumns:
    """The column of conversations of a file, where it has one of a usual name."""
    usual = usual_column(column_names(source, most=1), COLUMNS)
    return InputColumns((usual,), conversations=True) if usual else columns


def base_of(model: LanguageModel, run_dir: Path) -> LanguageModel:
    """As `load_base`, whose errors name the flag."""
    try:
        return tuned_model.load_base(model, run_dir)
    except UserError as error:
        raise UserError(f"--compare_base: {error}") from error


def train_token_counts(
    run_dir: Path, metadata: Metadata, dataset_dir: Path | None
) -> np.ndarray | None:
    """What the run learnt, for the unigram model; None, which is said, where it is gone by now."""
    try:
        records = finished_run.split_of_run(run_dir, metadata, "train", dataset_dir)
    except UserError as error:
        print(f"note: no unigram model to compare with: {error}", file=sys.stderr)
        return None
    return learnt_token_counts(records, metadata.tokenizer.vocabulary)


def evaluate_run(
    responder: Responder,
    records: Records,
    train_counts: np.ndarray | None,
    run_dir: Path,
    strategy: tf.distribute.Strategy,
    seq_len: int,
) -> None:
    """Scores the test split; prints the figures, writes test.json and adds them to the card.

    Loss, perplexity and token accuracy are over every supervised token; ROUGE-L is of responses to
    `rouge_rows(options)` examples, spread evenly over the split, whose prompt leaves room for one.
    """
    options, baseline = responder.options, None
    source = evaluation_batches(records, options.batch_size, seq_len)
    means = evaluate(StepFunctions(NextTokens(responder.model), strategy), source)
    scores = language_model_scores(means)
    if train_counts is not None:
        counts = learnt_token_counts(records, len(train_counts))
        unigram = frequency_figures(train_counts, counts)
        baseline = language_model_scores(unigram)
    print_scores("test", scores, baseline)
    section = score_section(scores, baseline)
    content: dict[str, Any] = {**scores, **({"baseline": baseline} if baseline else {})}
    if responder.template and (count := rouge_rows(options)):
        rouge = rouge_scores(responder, records, count)
        content |= rouge
        line = (
            f"ROUGE-L of {rouge['rouge_rows']} responses, with a 95 % interval: "
            f"{rouge['rouge_l']:.4f} ({shown_interval(*rouge['rouge_l_interval'])})"
        )
        print(line)
        method = f"bootstrap over those responses, sampling_method {options.sampling_method}"
        section += f"\n\n{line}; {method}."
    write_text(run_dir / "test.json", scores_as_json(content))
    report_test_scores(run_dir, section)


def rouge_rows(options: GenerationOptions) -> int:
    """How many responses are scored by ROUGE-L; none, and a line says so, without rouge-score."""
    if options.rouge_rows is not None:
        return options.rouge_rows
    if extras.is_installed("rouge"):
        return ROUGE_ROWS
    print(f"note: no ROUGE-L: it needs {extras.how_to_install('rouge')}", file=sys.stderr)
    return 0


def first_answer(records: Records, row: int) -> list[int]:
    """The tokens that follow a row's prompt and are learnt, up to those that are not."""
    start = records.columns["prompt_length"][row]
    learnt = records.learnt_in(row)[start:]
    stop = len(learnt) if learnt.all() else int(np.argmin(learnt))
    return records.row(row)[start:][:stop].tolist()


def rouge_scores(responder: Responder, records: Records, wanted: int) -> dict[str, Any]:
    """ROUGE-L of the model's responses to so many rows against those of the data."""
    options, tokenizer = responder.options, responder.model.tokenizer
    prompt_lengths = records.columns["prompt_length"]
    room = responder.model.config.decoder.positions - options.max_new_tokens
    fitting = np.flatnonzero(prompt_lengths <= room)
    count = min(wanted, len(fitting))
    if not count:
        raise UserError(
            f"no prompt of the test split leaves room for {options.max_new_tokens} tokens"
        )
    rows = fitting[np.linspace(0, len(fitting) - 1, count).astype(int)]
    prompts = [records.row(row)[: prompt_lengths[row]].tolist() for row in rows]
    references = [
        tokenizer.decode(first_answer(records, row), skip_end_of_text=True) for row in rows
    ]
    values = rouge_l(references, responder.continue_prompts(prompts))
    return {
        "rouge_l": float(values.mean()),
        "rouge_l_interval": list(mean_interval(values)),
        "rouge_rows": count,
        "sampling_method": options.sampling_method,
    }
