"""Prepared examples as people can read them: what is prompt, what is learnt, what is padding."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.tokenizer import Tokenizer

STYLES = {"prompt": "cyan", "supervised": "bold green", "padding": "bright_black"}
END_MARK = "⟦end of text⟧"
"""How the end of text is shown. Its own name would look as if a text had it in letters."""


def show_examples(directory: Path, metadata: Metadata, count: int) -> None:
    """Prints the first `count` examples of the train split of a language model's data set."""
    if not count:
        return
    # Imported here, as it imports TensorFlow: flags and rows are looked at before.
    from gpt2_tuning.data.tfrecords import read_records

    records = read_records(directory, metadata, "train", most=count)
    console = Console(highlight=False, soft_wrap=True)
    for index in range(min(count, len(records))):
        row = (records.row(index).tolist(), records.learnt_in(index).tolist(), metadata.seq_len)
        total = metadata.splits["train"]["examples"]
        console.print(f"\nexample {index + 1} of {total:,} in train:", end=" ")
        console.print(example_text(*row, metadata.tokenizer))


def example_text(
    token_ids: list[int], learnt: Sequence[bool], seq_len: int, tokenizer: Tokenizer
) -> Text:
    """The parts of an example, each under its name and in its colour, with their counts.

    Args:
        token_ids: the example's tokens.
        learnt: for each of them whether it is.
        seq_len: the length that the record is padded to.
        tokenizer: that of the data.
    """
    padding, supervised = seq_len - len(token_ids), sum(map(bool, learnt))
    counts = (len(token_ids) - supervised, supervised, padding)
    parts = []
    for is_learnt, stretch in itertools.groupby(
        zip(token_ids, learnt, strict=True), lambda t: t[1]
    ):
        text = readable([token for token, _ in stretch], tokenizer)
        parts.append(("supervised" if is_learnt else "prompt", text))
    parts.append(("padding", f"{END_MARK} x {padding}" if padding else ""))
    shown = Text(
        " + ".join(f"{count} {name}" for count, name in zip(counts, STYLES, strict=True))
        + " tokens"
    )
    for name, text in parts:
        shown.append(f"\n--- {name} ---\n", style="bold").append(text, style=STYLES[name])
    return shown


def readable(token_ids: Sequence[int], tokenizer: Tokenizer) -> str:
    """The text of tokens, with the end of text shown as END_MARK."""
    shown = ""
    for ends, stretch in itertools.groupby(token_ids, lambda token: token == tokenizer.end):
        ids = list(stretch)
        shown += END_MARK * len(ids) if ends else tokenizer.decode(ids)
    return shown
