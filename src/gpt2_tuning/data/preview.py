"""Prepared examples as people can read them: what is text or prompt, learnt, padding; the class."""

import itertools
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.tokenizer import Tokenizer

STYLES = {
    **{"prompt": "cyan", "supervised": "bold green", "padding": "bright_black"},
    **{"text": "cyan", "class": "bold green"},
}
COUNTED = ("prompt", "supervised", "padding")
END_MARK = "⟦end of text⟧"
"""How the end of text is shown. Its own name would look as if a text had it in letters."""


def show_examples(directory: Path, metadata: Metadata, count: int) -> None:
    """Prints the first `count` examples of the train split."""
    if not count:
        return
    # Imported here, as it imports TensorFlow: flags and rows are looked at before.
    from gpt2_tuning.data.tfrecords import read_records

    records = read_records(directory, metadata, "train", most=count)
    console = Console(highlight=False, soft_wrap=True)
    for index in range(min(count, len(records))):
        ids, total = records.row(index).tolist(), metadata.splits["train"]["examples"]
        console.print(f"\nexample {index + 1} of {total:,} in train:", end=" ")
        if metadata.label_names:
            label = metadata.label_names[records.columns["label"][index]]
            console.print(labelled_text(ids, label, metadata.seq_len, metadata.tokenizer))
        else:
            learnt = records.learnt_in(index).tolist()
            console.print(example_text(ids, learnt, metadata.seq_len, metadata.tokenizer))


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
    parts: list[tuple[str, str]] = []
    for is_learnt, stretch in itertools.groupby(
        zip(token_ids, learnt, strict=True), lambda t: t[1]
    ):
        text = readable([token for token, _ in stretch], tokenizer, goes_on=bool(parts))
        parts.append(("supervised" if is_learnt else "prompt", text))
    parts.append(("padding", padding_text(padding, tokenizer)))
    counted = (f"{count} {name}" for count, name in zip(counts, COUNTED, strict=True))
    return under_names(" + ".join(counted) + " tokens", parts)


def labelled_text(token_ids: list[int], label: str, seq_len: int, tokenizer: Tokenizer) -> Text:
    """As `example_text`, of an example that has a class."""
    padding = seq_len - len(token_ids)
    parts = [
        ("text", readable(token_ids, tokenizer)),
        ("class", label),
        ("padding", padding_text(padding, tokenizer)),
    ]
    return under_names(f"{len(token_ids)} text + {padding} padding tokens", parts)


def under_names(head: str, parts: Sequence[tuple[str, str]]) -> Text:
    """A line, and after it texts under their names, which are of STYLES."""
    shown = Text(head)
    for name, text in parts:
        shown.append(f"\n--- {name} ---\n", style="bold").append(text, style=STYLES[name])
    return shown


def padding_text(count: int, tokenizer: Tokenizer) -> str:
    """What fills an example up, and how often; nothing where it is full."""
    return f"{readable([tokenizer.pad], tokenizer)} x {count}" if count else ""


def readable(token_ids: Sequence[int], tokenizer: Tokenizer, goes_on: bool = False) -> str:
    """The text of tokens, with the end of text shown as END_MARK.

    `goes_on` says that tokens come before them, so that blank space at their beginning stays.
    """
    shown = ""
    for ends, stretch in itertools.groupby(token_ids, lambda token: token == tokenizer.end):
        ids = list(stretch)
        text = tokenizer.continued if goes_on and not shown else tokenizer.decode
        shown += END_MARK * len(ids) if ends else text(ids)
    return shown
