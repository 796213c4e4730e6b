"""Prepares a data set of pairs of texts with a class each: rows in, TFRecords out.

gpt2-tuning prepare entailment
gpt2-tuning prepare entailment --dataset_config mrpc
gpt2-tuning prepare entailment --train_file pairs.tsv --premise_column sentence1
"""

import dataclasses
import functools
from collections.abc import Sequence

from gpt2_tuning import cli, paths
from gpt2_tuning.data import glue
from gpt2_tuning.options.preparation import PrepareOptions

TASK = "entailment"
DEFAULT_CONFIG = "rte"
SAMPLE_FILE = paths.ASSETS / "entailment_sample.jsonl"


@dataclasses.dataclass(frozen=True)
class Options(PrepareOptions):
    """Prepare pairs of texts: by default GLUE's RTE from the Hugging Face Hub."""

    dataset_config: str | None = None
    """Configuration on the Hub. Of nyu-mll/glue: rte (default), mrpc, qnli, qqp, wnli or mnli."""
    seq_len: int = 384
    """Longest pair, in tokens: the longer text of longer pairs is cut. At most 1024, or with
    --base as many as it has positions."""
    premise_column: str | None = None
    """Column that holds the first text. Default: premise, or what GLUE's own files call it."""
    hypothesis_column: str | None = None
    """Column that holds the second text. Default: hypothesis, or what GLUE's files call it."""
    label_column: str | None = None
    """Column that holds the class, as a name or an integer; -1 is no class. Default: `label`, or
    what GLUE's own files call it."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        super().check()
        self.check_apart("premise_column", "hypothesis_column", "label_column")


def prepare(options: Options) -> None:
    """Reads, tokenises and writes the data set, then says what was found."""
    from gpt2_tuning.data.examples import pair_example
    from gpt2_tuning.data.opened_rows import open_rows
    from gpt2_tuning.data.preparation import checked_output_dir, prepare_labelled, with_room
    from gpt2_tuning.data.sources import read_source
    from gpt2_tuning.formats.base_files import find_base

    base = find_base(options.base)
    options = with_room(options, base)
    checked_output_dir(TASK, options, base, shortest=3)  # a token, the separator, a token
    pairs: Sequence[tuple[str, str]] = glue.TEXT_COLUMNS
    split_names = None
    if not options.train_file and options.dataset in (None, glue.HUB_NAME):
        config = options.dataset_config or DEFAULT_CONFIG
        options = dataclasses.replace(options, dataset_config=config)
        task = glue.pair_task(config)
        pairs, split_names = (task.text_columns,), task.split_names

    opened = open_rows(options, glue.HUB_NAME, SAMPLE_FILE, split_names)
    texts = glue.usual_pair(opened.first_columns(), pairs)
    usual = {"premise_column": texts[:1], "hypothesis_column": texts[1:]}
    options = opened.with_usual_columns(options, {**usual, "label_column": glue.LABEL_COLUMNS})
    options.check()  # again, with the columns that were not given
    columns = [options.premise_column or "", options.hypothesis_column or ""]
    label_column = options.label_column or ""
    source = read_source(
        opened,
        options,
        base.tokenizer.end_text,
        columns,
        label_column,
        group_columns=columns[:1],  # a premise that trained must not come back to validate
        signed_labels=False,
    )
    make_example = functools.partial(pair_example, separator=base.tokenizer.separator)
    prepare_labelled(TASK, options, base, source, columns, label_column, make_example)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the step; returns its exit code. `program` is what --help calls it."""
    return cli.run(Options, prepare, argv, program, tensorflow=False)
