"""What every prep_dataset.py does: check the flags, write the data set, say what was found.

A task's script is left with its policy: which columns, and what an example is.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from gpt2_tuning import paths
from gpt2_tuning.data.base import Base
from gpt2_tuning.data.examples import Example
from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.preview import show_examples
from gpt2_tuning.data.report import report_table
from gpt2_tuning.data.sources import Source, split_origins
from gpt2_tuning.data.words import WordTokenizer
from gpt2_tuning.data.writing import Examples, check_output_dir, write_dataset
from gpt2_tuning.errors import UserError
from gpt2_tuning.startup import import_tensorflow

if TYPE_CHECKING:
    from gpt2_tuning.options.preparation import DatasetOptions

WRITTEN_END_ADVICE = "remove it from the texts, as the token itself is put wherever it belongs"
"""What to do where texts hold the letters of the end of text."""


OptionsT = TypeVar("OptionsT", bound="DatasetOptions")


def with_room(options: OptionsT, base: Base) -> OptionsT:
    """The flags; a --seq_len that was not chosen is no longer than the base's positions."""
    if not base.positions < options.seq_len == type(options).seq_len:
        return options
    print(f"note: examples of at most {base.positions} tokens, as many as the base has positions")
    return dataclasses.replace(options, seq_len=base.positions)


def checked_output_dir(task: str, options: "DatasetOptions", base: Base, shortest: int = 1) -> Path:
    """Where the data set goes. Call it before any work: it also checks --seq_len.

    Raises:
        UserError: --seq_len is not from `shortest` to the base's positions, or the directory may
            not be used.
    """
    if not shortest <= options.seq_len <= base.positions:
        raise UserError(
            f"--seq_len must be between {shortest} and {base.positions}, not {options.seq_len}"
        )
    output_dir = options.output_dir or paths.dataset_dir(task)
    check_output_dir(output_dir)
    return output_dir


def prepare_source(
    task: str,
    options: "DatasetOptions",
    base: Base,
    source: Source,
    examples: Callable[[str], Examples],
    columns: Sequence[str],
    template: dict[str, str] | None = None,
    written_end_advice: str = WRITTEN_END_ADVICE,
) -> Metadata:
    """Writes the data set; prints the report, the command that comes next and what --show asks for.

    Args:
        task: such as `classification`, the first word of its folder's name.
        options: the flags.
        base: what `--base` names.
        source: the rows.
        examples: gives the rows of a split, by its name, as examples.
        columns: what each example stores beside its tokens: `label` or `prompt_length`.
        template: `name` and `text` of the prompt, where the task has one.
        written_end_advice: what to do where texts hold the letters of the end of text, which it
            may name as {end_text}.

    Raises:
        UserError: a split has no row that gives an example.
        OSError: the disk is full or cannot be written to.
    """
    output_dir, end_text = checked_output_dir(task, options, base), base.tokenizer.end_text
    header = metadata_of(task, options, base, source, columns, template)
    rows = {split: examples(split) for split in source.splits}
    for note in source.notes:
        print(f"note: {note}")
    import_tensorflow()  # only now: what is wrong with the flags is said without waiting for it
    metadata = write_dataset(output_dir, header, rows)
    Console().print(report_table(metadata.splits, end_text))
    say_what_follows(source, options, written_end_advice.format(end_text=end_text), base)
    print(f"{output_dir} is ready. Next: {paths.step_command('train', task)}", end="")
    print(f" --dataset_dir {options.output_dir}" if options.output_dir else "")
    show_examples(output_dir, metadata, options.show)
    return metadata


def metadata_of(
    task: str,
    options: "DatasetOptions",
    base: Base,
    source: Source,
    columns: Sequence[str],
    template: dict[str, str] | None,
) -> Metadata:
    """What metadata.json says before the rows are written; the arguments of `prepare_source`."""
    return Metadata(
        task=task,
        dataset={"name": source.name, "source": source.kind, "fingerprint": source.fingerprint},
        tokenizer_sha256=base.tokenizer.sha256,
        seq_len=options.seq_len,
        columns=list(columns),
        label_names=source.label_names,
        template=template,
        split_seed=options.seed,
        splits=split_origins(source),
        pad_token_id=base.tokenizer.pad,
        base=base.name,
        tokenizer=base.tokenizer,
    )


def say_what_follows(source: Source, options: "DatasetOptions", advice: str, base: Base) -> None:
    """Notes on letters of the end of text, about which there is advice, and on a seed in vain."""
    end_text = base.tokenizer.end_text
    if any(counts["end_of_text_written"] for counts in source.counts.values()):
        print(
            f"note: {end_text} written in a text is learnt as those letters, not as the"
            f" end of a text: {advice}"
        )
    cut = any(not origin.startswith("given") for origin in source.origins.values())
    if options.seed and not cut and options.limit is None:
        print("note: --seed has no effect: the data set has every split, so nothing is drawn")


def prepare_labelled(
    task: str,
    options: "DatasetOptions",
    base: Base,
    source: Source,
    text_columns: Sequence[str],
    label_column: str,
    make_example: Callable[..., Example],
) -> Metadata:
    """As `prepare_source`, for a task whose examples are one text or several, and a class.

    Args:
        task: as in `prepare_source`.
        options, base: as in `prepare_source`.
        source: the rows, their classes as numbers.
        text_columns: the columns of an example's texts; a row that lacks one of them is dropped.
        label_column: the column of its class.
        make_example: takes the token ids of each text, then the class and seq_len.
    """
    tokenizer = WordTokenizer(base.tokenizer)

    def examples(split: str) -> Iterator[Example | None]:
        for batch in source.splits[split].batches():
            texts = [[text or "" for text in batch[name]] for name in text_columns]
            first, *others = texts
            ids = (tokenizer.encode_first(first), *map(tokenizer.encode_batch, others))
            encoded = zip(*ids, strict=True)
            rows = zip(zip(*texts, strict=True), encoded, batch[label_column], strict=True)
            for fields, ids, label in rows:
                if all(map(str.strip, fields)):
                    yield make_example(*ids, label, options.seq_len)
                else:
                    yield None

    return prepare_source(task, options, base, source, examples, columns=["label"])
