"""Tries a tuned classifier: `python classification_tuning/test.py --text "i feel great"`."""

import dataclasses
import sys
from collections.abc import Sequence

import tyro

from gpt2_tuning import cli
from gpt2_tuning.errors import UserError
from gpt2_tuning.training.options import TestOptions

TASK = "classification"


@dataclasses.dataclass(frozen=True)
class Options(TestOptions):
    """Labels texts with a tuned classifier, or scores it on its test split."""

    text: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A text to label; may be given several times."""
    text_column: str = "text"
    """Column of --input that holds the text."""


def test(options: Options) -> None:
    """Rebuilds the run's model and does what the flags ask for."""
    from gpt2_tuning.data.metadata import read_metadata
    from gpt2_tuning.inference import labelling
    from gpt2_tuning.inference.classification import classify_text
    from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
    from gpt2_tuning.training import base_model, evaluation, run_directory
    from gpt2_tuning.training.strategy import make_strategy

    if not (options.text or options.input or options.evaluate or options.interactive):
        raise UserError("nothing to do: give --text, --input, --evaluate or --interactive")
    if not all(text.strip() for text in options.text):
        raise UserError("--text is empty")
    run_dir = options.run_dir or run_directory.newest_run(TASK)
    metadata = read_metadata(run_dir, TASK)
    with make_strategy(options.strategy).scope():
        model = base_model.load_tuned(GPT2Classifier, run_dir, label_names=metadata.label_names)

    def predict(examples: Sequence[labelling.Fields]):
        texts = [fields[0] for fields in examples]
        return classify_text(model, texts, options.batch_size, metadata.seq_len)

    if options.text:
        labelling.print_predictions([(text,) for text in options.text], predict)
    if options.input:
        labelling.label_file(options.input, options.output, [options.text_column], predict)
    if options.evaluate:
        records = run_directory.split_of_run(run_dir, metadata, "test", options.dataset_dir)
        evaluation.evaluate_classifier(model, records, run_dir, "test", options.batch_size)
        print(f"figures: {run_dir / 'test.json'}")
    if options.interactive:
        labelling.ask(["text"], predict)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the script; returns its exit code."""
    return cli.run(Options, test, argv)


if __name__ == "__main__":
    sys.exit(main())
