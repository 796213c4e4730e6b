"""Which flags of the scripts have an effect only beside others: a table for each kind of script."""

from pathlib import Path
from typing import Any

from gpt2_tuning.file_names import inner_suffix
from gpt2_tuning.needs import Implied, Need, Needs

CUT = Need(
    lambda o: o.limit is not None or not (o.train_file and o.validation_file and o.test_file),
    "a split to set aside, or --limit: with a file for each split nothing is drawn",
)
TEXT = ("", ".txt")
"""The suffixes of what is all text: a folder's, and a file's."""


def suffixes(options: Any) -> set[str]:
    """What the names of the local files say of their content, in small letters."""
    found = set()
    for given in (options.train_file, options.validation_file, options.test_file):
        for path in [given] if isinstance(given, Path) else given or ():
            found.add(inner_suffix(path))
    return found


COLUMNS = Need(
    lambda o: bool(o.dataset or suffixes(o) - set(TEXT)),
    "a file with columns, or --dataset: a .txt file is all text",
)
PREPARE: Needs = {
    "seed": [CUT],
    "delimiter": [
        Need(
            lambda o: bool(suffixes(o) & {".csv", ".tsv"}), "--train_file with a .csv or .tsv file"
        )
    ],
    "encoding": [
        Need(
            lambda o: bool(suffixes(o) - {".parquet", ".xlsx"}),
            "--train_file with a file of text, such as .csv or .jsonl",
        )
    ],
    "json_field": [
        Need(
            lambda o: bool(suffixes(o) & {".json", ".jsonl", ".ndjson"}),
            "--train_file with a .json file",
        )
    ],
    "coerce": [
        Need(
            lambda o: (
                bool(suffixes(o) - {*TEXT, ".csv", ".tsv"}) or o.dataset not in (None, "sample")
            ),
            "rows of which some may hold numbers: what CSV, TSV and .txt files hold is text",
        )
    ],
}
PREPARE_TEXT: Needs = {**PREPARE, "text_column": [COLUMNS]}

LORA = Need(lambda o: o.lora_rank > 0, "--lora_rank above 0: rank 0 tunes every weight")
SIZE = Need(
    lambda o: o.pretrained in (None, "none"),
    "the published weights of that size or --pretrained none: other weights have a size of their "
    "own",
)
EPOCHS = Need(lambda o: o.max_updates is None, "--max_updates to be left out: it ends the run")
LATER = Need(
    lambda o: (
        o.patience is None
        or o.patience < o.epochs
        or (o.validate_every or o.max_updates) is not None
    ),
    "more --epochs than that, or --validate_every: else it stops no run",
)
ANEW = Need(
    lambda o: o.adapter is None and o.continue_ is None,
    "--adapter and --continue to be left out: what a run begins with has its own",
)
NO_RUN = Need(lambda o: o.continue_ is None, "--continue to be left out: the run has a base")
LORA_PLUS = Need(lambda o: o.lora_plus, "--lora_plus")
LORA_SOMEHOW = Need(
    lambda o: o.lora_rank > 0 or o.adapter is not None or o.continue_ is not None, LORA.words
)
NO_LORA = Need(
    lambda o: o.lora_rank == 0 and o.adapter is None,
    "--lora_rank 0 and no --adapter: with LoRA the updates are tuned",
)
TUNE: Implied = {"tune": ("lora_rank", 0)}
"""Whoever names a part of the weights does not mean LoRA."""
TRAIN: Needs = {
    "model_size": [NO_RUN, SIZE],
    "pretrained": [NO_RUN],
    "lora_rank": [ANEW],
    "lora_alpha": [ANEW, LORA],
    "lora_dropout": [ANEW, LORA],
    "lora_targets": [ANEW, LORA],
    "lora_layers": [ANEW, LORA],
    "lora_init": [ANEW, LORA],
    "use_dora": [ANEW, LORA],
    "lora_bias": [ANEW, LORA],
    "modules_to_save": [ANEW, LORA],
    "tune": [NO_LORA],
    "lora_plus": [LORA_SOMEHOW],
    "lora_plus_ratio": [LORA_PLUS],
    "patience": [LATER],
    "epochs": [EPOCHS],
}

EVALUATE = Need(lambda o: o.evaluate, "--evaluate")
INPUT = Need(lambda o: o.input, "--input, the file whose columns are meant")
LABEL: Needs = {
    "dataset_dir": [EVALUATE],
    "batch_size": [
        Need(
            lambda o: o.input or o.evaluate or any(len(given) > 1 for given in o.texts().values()),
            "several texts: --input, --evaluate, or a flag given more than once",
        )
    ],
    "text_column": [INPUT],
    "premise_column": [INPUT],
    "hypothesis_column": [INPUT],
}

WRITES = Need(
    lambda o: o.writes, "something to write: --prompt, --input, --interactive or --evaluate"
)
CONTINUES = Need(lambda o: o.writes, "something to write: --prompt, --input or --interactive")
DRAWS = Need(
    lambda o: o.sampling_method != "greedy",
    "--sampling_method temperature, top_k or top_p: greedy draws nothing",
)
GENERATION: Needs = {
    "dataset_dir": [EVALUATE],
    "batch_size": [
        Need(
            lambda o: o.input or o.evaluate or len(o.prompt) > 1,
            "several texts: --input, --evaluate, or --prompt given more than once",
        )
    ],
    "max_new_tokens": [WRITES],
    "sampling_method": [WRITES],
    "temperature": [WRITES, DRAWS],
    "top_k": [WRITES, Need(lambda o: o.sampling_method == "top_k", "--sampling_method top_k")],
    "top_p": [WRITES, Need(lambda o: o.sampling_method == "top_p", "--sampling_method top_p")],
    "min_p": [WRITES, DRAWS],
    "repetition_penalty": [WRITES],
    "presence_penalty": [WRITES],
    "frequency_penalty": [WRITES],
    "no_repeat_ngram": [WRITES],
    "stop": [WRITES],
    "cut_prompts": [Need(lambda o: o.input, "--input: no other prompts are cut")],
    "seed": [WRITES, DRAWS],
    "rouge_rows": [EVALUATE],
    "instruction_column": [INPUT],
    "context_column": [INPUT],
    "prompt_column": [INPUT],
}
CONTINUATION: Needs = {
    **{
        name: [CONTINUES if n is WRITES else n for n in found] for name, found in GENERATION.items()
    },
    "rouge_rows": [Need(lambda o: False, "responses to compare: plain text has none")],
}
SAMPLING: Implied = {
    "top_k": ("sampling_method", "top_k"),
    "top_p": ("sampling_method", "top_p"),
    "temperature": ("sampling_method", "temperature"),
    "min_p": ("sampling_method", "temperature"),
}
"""A way to choose tokens that is given a value is the one that is meant."""
