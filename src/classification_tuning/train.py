"""Tunes a GPT-2 to classify texts: `python classification_tuning/train.py --model_size 124M`.

Full tuning is the default here: a classifier of short texts learns more from it than from LoRA,
and costs little. `--lora_rank 8` tunes adapters and the head instead.
"""

import dataclasses
import sys
from collections.abc import Sequence

from gpt2_tuning import cli, paths
from gpt2_tuning.training.options import TrainOptions

TASK = "classification"


@dataclasses.dataclass(frozen=True)
class Options(TrainOptions):
    """Tunes a GPT-2 on texts and their labels, as prepared by prep_dataset.py."""

    lora_rank: int = 0
    """Rank of the LoRA update; 0 tunes every weight."""
    epochs: int = 4
    """Passes over the training rows."""
    batch_size: int = 16
    """Examples in one update, over all devices."""


def train(options: Options) -> None:
    """Trains on the train split, keeps what does best on validation, and reports."""
    import keras

    from gpt2_tuning.data.batches import BatchSource
    from gpt2_tuning.data.metadata import read_metadata
    from gpt2_tuning.data.tfrecords import read_records
    from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
    from gpt2_tuning.training import base_model, evaluation, run_directory
    from gpt2_tuning.training.strategy import make_strategy
    from gpt2_tuning.training.tuner import Tuner

    dataset_dir = options.dataset_dir or paths.dataset_dir(TASK)
    metadata = read_metadata(dataset_dir, TASK)
    run_dir = run_directory.check_run_dir(TASK, options, metadata)
    records = {name: read_records(dataset_dir, metadata, name) for name in ("train", "validation")}
    batches = {name: BatchSource(rows, options.batch_size) for name, rows in records.items()}

    keras.utils.set_random_seed(options.seed)
    strategy = make_strategy(options.strategy)
    with strategy.scope():
        model = base_model.make_model(
            GPT2Classifier, options, metadata, label_names=metadata.label_names
        )
    run_directory.start_run(run_dir, options, metadata)
    base_model.keep_random_base(model, options, run_dir)

    tuner = Tuner(
        model,
        batches["train"],
        batches["validation"],
        options,
        base_model.learning_rate_of(options),
        run_dir,
        strategy,
        monitor="val_accuracy",
    )
    history = tuner.fit(resume=options.resume)
    base_model.save_tuned(model, run_dir)

    scores = evaluation.evaluate_classifier(
        model, records["validation"], run_dir, "validation", options.batch_size
    )
    evaluation.write_model_card(
        run_dir,
        "Text classifier",
        run_directory.as_settings(options),
        metadata,
        history,
        {"accuracy": scores.accuracy, "macro-F1": scores.macro_f1},
    )
    print(f"run: {run_dir}\nreport: {run_dir / 'README.md'}")
    print(f"next: python classification_tuning/test.py --run_dir {run_dir} --evaluate")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    return cli.run(Options, train, argv)


if __name__ == "__main__":
    sys.exit(main())
