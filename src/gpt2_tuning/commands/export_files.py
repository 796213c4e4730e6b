"""What an export writes: a whole model, an adapter or a graph, each with its card."""

import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpt2_tuning.commands import export_card, export_use
from gpt2_tuning.commands.export_runs import FinishedRun
from gpt2_tuning.data.chat_template import TEMPLATE_FILE
from gpt2_tuning.data.file_tokenizer import TOKENIZER_CONFIG_FILE
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import Tree, foreign_entry
from gpt2_tuning.formats import adapters
from gpt2_tuning.inference import saved_model, signatures
from gpt2_tuning.inference.graph_prompts import prompts_of
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.runs import weights_record
from gpt2_tuning.runs.run_files import ADAPTER, BASE, HUGGING_FACE
from gpt2_tuning.small_files import read_json

GENERATION_FILE = "generation_config.json"
EXTRA = "assets.extra"
"""TensorFlow's name for a directory of a SavedModel that it leaves to others."""
OWN: Tree = {
    **HUGGING_FACE,
    re.escape(GENERATION_FILE): None,
    re.escape(TEMPLATE_FILE): None,
    re.escape(adapters.CONFIG_FILE): None,
    re.escape(adapters.WEIGHTS_FILE): None,
    r"README\.md": None,
    r"[a-z_]+\.png": None,
    r"(saved_model|fingerprint)\.pb": None,
    "variables": {r"variables\.(index|data-[0-9]{5}-of-[0-9]{5})": None},
    "assets": {},
    re.escape(EXTRA): HUGGING_FACE,
}


def foreign_in_export(directory: Path) -> Path | None:
    """The first thing in a directory that no export wrote; None where it may be replaced."""
    if not export_card.is_export(directory):
        return next(iter(sorted(directory.iterdir())), None)
    return foreign_entry(directory, OWN)


def write_whole(run: FinishedRun, directory: Path, place: str) -> None:
    """A model for transformers: an adapter is merged into its base.

    Args:
        run: what is exported.
        directory: empty.
        place: where people will find it, for the card.

    Raises:
        UserError: the run's files were changed, or its base cannot be had.
    """
    model = run.model()
    model.chat_template = run.chat.text if run.chat else None
    if model.lora:
        model.merge_and_export(directory)
    else:
        model.save_pretrained(directory)
    tokenizer = run.metadata.tokenizer
    tokenizer.save(directory)
    if not run.classifies:
        ids = {"bos_token_id": tokenizer.start, "eos_token_id": tokenizer.end}
        write_json(directory / GENERATION_FILE, {**ids, "pad_token_id": tokenizer.pad})
    if run.chat:
        # What the template writes of special tokens must become these tokens.
        fields = read_json(directory / TOKENIZER_CONFIG_FILE)
        fields.pop("split_special_tokens", None)
        write_json(directory / TOKENIZER_CONFIG_FILE, fields)
    use = export_use.of_whole(run, place)
    export_card.write_card([run], directory, "transformers", use)


def write_adapter(run: FinishedRun, directory: Path, place: str) -> None:
    """The adapter for PEFT, as the run left it.

    Raises:
        UserError: the run tuned a whole model, or its files were changed.
    """
    if not run.has_adapter:
        raise UserError(f"run {run.directory} tuned no adapter, but its model: --to hf writes it")
    weights_record.check(run.directory)
    for name in (adapters.CONFIG_FILE, adapters.WEIGHTS_FILE):
        shutil.copyfile(run.directory / ADAPTER / name, directory / name)
    base: Path | str | None = adapters.read_adapter_config(directory)[1].base_name
    if (run.directory / BASE).is_dir():
        base = run.directory / BASE
    if base is None or Path(base).is_dir():
        print(f"note: the adapter's base is {base}, which others have not", file=sys.stderr)
    use = export_use.of_adapter(run, place)
    export_card.write_card([run], directory, "peft", use)


def write_graph(
    runs: Sequence[FinishedRun], directory: Path, place: str, max_new_tokens: int
) -> None:
    """A SavedModel that answers for each run.

    Args:
        runs: one, or several that tuned adapters of one base.
        directory: empty.
        place: where people will find it, for the card.
        max_new_tokens: of an answer.

    Raises:
        UserError: as `write_whole`; of several one tuned its whole model, or the bases differ.
    """
    whole = [run.directory for run in runs if not run.has_adapter]
    if len(runs) > 1 and whole:
        raise UserError(
            f"run {whole[0]} tuned its whole model: several runs share a base in one SavedModel "
            "where each tuned an adapter"
        )
    served = {}
    for name, run in zip(signature_names(runs), runs, strict=True):
        model = run.model()
        signature = signature_of(run, model, max_new_tokens)
        served[name] = saved_model.Served(model, signature)
    saved_model.save(served, directory)
    if not all(run.reads_texts for run in runs):
        runs[0].metadata.tokenizer.save(directory / EXTRA)
    inputs = {name: list(one.signature.inputs) for name, one in served.items()}
    use = export_use.of_graph(runs, inputs, place)
    export_card.write_card(runs, directory, None, use)


def signature_names(runs: Sequence[FinishedRun]) -> list[str]:
    """What the runs' signatures are called: after the directories, with the task where two agree.

    Raises:
        UserError: two agree in both.
    """
    names = [export_card.name_of(run) for run in runs]
    if len(set(names)) < len(names):
        pairs = zip(runs, names, strict=True)
        names = [f"{run.metadata.task}_{name}" for run, name in pairs]
    names = [re.sub(r"[^A-Za-z0-9_]", "_", name) for name in names]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two runs would both be signature {name}: rename one's directory")
    return names


def signature_of(
    run: FinishedRun, model: TunableModel, max_new_tokens: int
) -> signatures.Signature:
    """What a run answers in a graph.

    Raises:
        UserError: its template cannot be a part of one, or answers would be too long.
    """
    if isinstance(model, Classifier):
        if not run.reads_texts:
            return signatures.labels_of_tokens(model)
        separator = run.metadata.tokenizer.separator
        return signatures.labels_of_texts(model, run.texts, run.metadata.seq_len, separator)
    assert isinstance(model, LanguageModel)
    positions = model.config.decoder.positions
    if max_new_tokens >= positions:
        raise UserError(
            f"--max_new_tokens must be below the model's {positions:,} positions, not "
            f"{max_new_tokens}"
        )
    if not run.reads_texts:
        return signatures.written_tokens(model, max_new_tokens)
    names, compose = prompts_of(run.metadata)
    strip = run.metadata.template is not None
    return signatures.written_text(model, names, compose, strip, max_new_tokens)


def write_json(path: Path, fields: dict[str, Any]) -> None:
    """Writes an object, without what it has no value for."""
    kept = {name: value for name, value in fields.items() if value is not None}
    text = json.dumps(kept, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
