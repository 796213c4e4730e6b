"""Prepared examples as people can read them: what is prompt, what is learnt, what is padding."""

from pathlib import Path

from rich.console import Console
from rich.text import Text

from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.data.tokenizer import END_OF_TEXT_TOKEN, GPT2Tokenizer

STYLES = {"prompt": "cyan", "supervised": "bold green", "padding": "bright_black"}


def show_examples(directory: Path, metadata: Metadata, count: int) -> None:
    """Prints the first `count` examples of the train split of a language model's data set."""
    if not count:
        return
    # Imported here, as it imports TensorFlow: flags and rows are looked at before.
    from gpt2_tuning.data.tfrecords import read_records

    records = read_records(directory, metadata, "train")
    console = Console(highlight=False, soft_wrap=True)
    for index in range(min(count, len(records))):
        prompt_length = int(records.columns["prompt_length"][index])
        console.print(f"\nexample {index + 1} of {len(records):,} in train:", end=" ")
        console.print(example_text(records.row(index).tolist(), prompt_length, metadata.seq_len))


def example_text(token_ids: list[int], prompt_length: int, seq_len: int) -> Text:
    """The three parts of an example, each under its name and in its colour, with their counts.

    Args:
        token_ids: the example's tokens.
        prompt_length: how many of them come before the first that is learnt.
        seq_len: the length that the record is padded to.
    """
    tokenizer = GPT2Tokenizer()
    padding = seq_len - len(token_ids)
    parts = {
        "prompt": (prompt_length, tokenizer.decode(token_ids[:prompt_length])),
        "supervised": (len(token_ids) - prompt_length, tokenizer.decode(token_ids[prompt_length:])),
        "padding": (padding, f"{END_OF_TEXT_TOKEN} x {padding}" if padding else ""),
    }
    shown = Text(" + ".join(f"{count} {name}" for name, (count, _) in parts.items()) + " tokens")
    for name, (_, text) in parts.items():
        shown.append(f"\n--- {name} ---\n", style="bold").append(text, style=STYLES[name])
    return shown
