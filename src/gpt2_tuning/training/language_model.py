"""A language model's whole run: trained, saved, scored. Instructions and plain text share it."""

import math

from gpt2_tuning import paths
from gpt2_tuning.baselines import frequency_figures, learnt_token_counts
from gpt2_tuning.cluster import is_chief
from gpt2_tuning.data.metadata import Metadata, read_metadata
from gpt2_tuning.data.tfrecords import read_records
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import write_text
from gpt2_tuning.markdown import table
from gpt2_tuning.metrics import scores_as_json
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.options.training import LanguageModelOptions
from gpt2_tuning.runs import tuned_model
from gpt2_tuning.training import starts
from gpt2_tuning.training.layout import language_model_batches
from gpt2_tuning.training.model_card import CARD_FILE
from gpt2_tuning.training.objective import NextTokens
from gpt2_tuning.training.run import card_of, set_up, tuned
from gpt2_tuning.training.samples import sample_responses
from gpt2_tuning.training.strategy import lost_workers_reported, wait_for_all
from gpt2_tuning.training.tuner import Tuner


@lost_workers_reported()
def train_language_model(
    options: LanguageModelOptions, task: str, *, title: str, example: str
) -> None:
    """Trains on the train split, keeps what does best on validation, and reports.

    Args:
        options: the flags.
        task: such as `instruction`, the first word of its folder's name.
        title: what the model does, as the heading of its card.
        example: the flags with which the task's test.py tries the model.

    Raises:
        UserError: the data, the base weights or the run directory cannot be used.
    """
    options = starts.with_start(options)
    dataset_dir = options.dataset_dir or paths.dataset_dir(task)
    metadata = read_metadata(dataset_dir, task)
    options, run_dir, strategy = set_up(task, options, metadata)
    train, validation = (
        language_model_batches(read_records(dataset_dir, metadata, name), metadata, options)
        for name in ("train", "validation")
    )
    sources = (train, validation)
    arguments = (options, metadata, run_dir, strategy, sources)
    with tuned(LanguageModel, NextTokens, *arguments) as tuner:
        means = tuner.evaluate(validation)
        if is_chief(options.strategy):
            report(tuner, metadata, means, title, example)
    wait_for_all(strategy)


def report(
    tuner: Tuner, metadata: Metadata, means: dict[str, float], title: str, example: str
) -> None:
    """Saves what was tuned, and writes what it comes to on the validation split and its card."""
    model, run_dir, scores = tuner.model, tuner.run_dir, language_model_scores(means)
    assert isinstance(model, LanguageModel)
    tuned_model.save_tuned(model, run_dir)
    train, validation = (
        learnt_token_counts(source.records, metadata.tokenizer.vocabulary)
        for source in (tuner.train, tuner.validation)
    )
    unigram = frequency_figures(train, validation)
    baseline = language_model_scores(unigram)
    content = scores_as_json({**scores, "baseline": baseline})
    write_text(run_dir / "validation.json", content)
    card_of(tuner, metadata, title, example).write(
        run_dir, score_section(scores, baseline), unigram, "baseline: unigram model"
    )
    tuner.samples["responses"] = sample_responses(model, tuner.validation.records, metadata)
    print_scores("\nvalidation", scores, baseline)
    print(f"run: {run_dir}\nreport: {run_dir / CARD_FILE}")
    print(f"next: {paths.step_command('test', metadata.task)} --run_dir {run_dir} {example}")


def language_model_scores(means: dict[str, float]) -> dict[str, float]:
    """Loss, perplexity and token accuracy of a split, from its token-weighted means.

    Raises:
        UserError: the loss is not finite.
    """
    if not math.isfinite(means["loss"]):
        raise UserError(
            "the loss is not finite: the model's weights are damaged or its training went wrong, "
            "so train it again, with a lower --learning_rate"
        )
    return {
        "loss": means["loss"],
        "perplexity": math.exp(min(means["loss"], 700)),
        "token_accuracy": means["accuracy"],
    }


def print_scores(split: str, scores: dict[str, float], baseline: dict[str, float] | None) -> None:
    """The scores in a line, and the unigram model's in another."""
    print(f"{split}: {in_words(scores)}")
    if baseline:
        print(f"a unigram model of the train split: {in_words(baseline)}")


def shown(value: float) -> str:
    """A figure with four decimals, or two above 10, where more would say nothing."""
    return f"{value:.4f}" if value < 10 else f"{value:,.2f}"


def in_words(scores: dict[str, float]) -> str:
    """The scores in one line."""
    return ", ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in scores.items())


def score_section(scores: dict[str, float], baseline: dict[str, float] | None) -> str:
    """The scores in Markdown, for a model card, beside the unigram model's where it is known."""
    header = ["figure", "value", *(["unigram model"] if baseline else [])]
    rows = []
    for name, value in scores.items():
        found = [value, *([baseline[name]] if baseline else [])]
        rows.append([name.replace("_", " "), *map(shown, found)])
    sentences = [
        "Figures are means over every supervised token of the split. They have no interval: tokens",
        "of one text depend on each other, and an interval for independent ones is too narrow.",
    ]
    if baseline:
        sentences.append(
            "The unigram model knows how often each token is in the train split alone."
        )
    return "\n\n".join([table(header, rows), "\n".join(sentences)])
