"""What the `test` steps of classifiers share: a run's model labels texts, and is scored."""

import functools
from collections.abc import Sequence

from gpt2_tuning.errors import UserError
from gpt2_tuning.inference import labelling
from gpt2_tuning.inference.answering import InputColumns, file_to_answer, readable
from gpt2_tuning.inference.classification import classify
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.options.testing import LabelOptions
from gpt2_tuning.runs import finished_run, tuned_model
from gpt2_tuning.training import evaluation, seeds
from gpt2_tuning.training.model_card import report_test_scores
from gpt2_tuning.training.strategy import make_strategy


def try_classifier(options: LabelOptions, task: str, columns: Sequence[str]) -> None:
    """Rebuilds a run's model and does what the flags of a test.py ask for.

    Whatever is wrong with the flags, the texts or the files is found out before the model is made.

    Args:
        options: the flags; `texts()` has what is to be labelled.
        task: the task the run must be of.
        columns: those of --input that hold what `texts()` names, in its order.

    Raises:
        UserError: the run, its data or the input cannot be used.
    """
    run_dir = options.run_dir or tuned_model.run_of(options.adapter, task)
    run_dir = run_dir or finished_run.newest_run(task)
    if (run_dir / seeds.SEEDS_FILE).is_file():
        raise UserError(f"{run_dir} holds a run for each seed: give --run_dir one of them")
    metadata = finished_run.metadata_of_run(run_dir, task)
    tuned_model.round_as_in_training(run_dir)
    texts = options.texts()
    flags = " and ".join(f"--{name}" for name in texts)
    examples = [readable(fields, flags) for fields in zip(*texts.values(), strict=True)]
    records = None
    if options.evaluate:
        records = finished_run.split_of_run(run_dir, metadata, "test", options.dataset_dir)
    in_file, added = InputColumns(tuple(columns)), (labelling.ADDED, labelling.BATCHES_AT_ONCE)
    with file_to_answer(options, run_dir, metadata, in_file, *added) as file:
        with make_strategy(options.strategy).scope():
            model = tuned_model.load_tuned(
                Classifier, run_dir, metadata.tokenizer, label_names=metadata.label_names
            )
            adapters = tuned_model.load_adapters(model, run_dir, options.adapter, task)
        predict = functools.partial(
            classify, model, batch_size=options.batch_size, seq_len=metadata.seq_len
        )
        if examples and adapters:
            labelling.print_under_adapters(examples, adapters, predict)
        elif examples:
            labelling.print_predictions(examples, predict)
        if file:
            labelling.label_file(file, predict)
    if records is not None:
        found = evaluation.evaluate_classifier(
            model, records, metadata, run_dir, "test", options.batch_size
        )
        report_test_scores(run_dir, evaluation.scorecard_section(found))
    if options.interactive:
        labelling.ask(InputColumns(tuple(texts)), predict)
