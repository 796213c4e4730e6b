"""The README.md of an export: the run's card with the YAML head that the Hub reads, and its use.

What is of the machine that tuned it, such as paths, is left out.
"""

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2_tuning.checks import is_number
from gpt2_tuning.commands.export_runs import FinishedRun
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.known import DEFAULT, published
from gpt2_tuning.formats.hub import public_name
from gpt2_tuning.small_files import read_json
from gpt2_tuning.training.model_card import CARD_FILE, described

TAG = "gpt2-tuning"
"""In the head of every card that an export writes."""
HEAD = re.compile(r"\A---\n(?P<fields>.*?)\n---\n", re.DOTALL)
PICTURE = re.compile(r"!\[[^\]]*\]\((?P<file>[a-z_]+\.png)\)")
SECTION = r"^## {name}\n.*?(?=^## |^<!-- |\Z)"
FLAG = re.compile(r"^    (?P<name>[a-z_]+): (?P<value>.*)\n?", re.MULTILINE)
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
SCORES = {
    "accuracy": ("accuracy", "accuracy"),
    "macro_f1": ("f1", "macro-F1"),
    "perplexity": ("perplexity", "perplexity"),
}
"""Figures of test.json that the Hub shows: its kinds of figures, and what people call them."""
TITLES = {True: "Classifier", False: "Language model"}


def write_card(runs: Sequence[FinishedRun], directory: Path, library: str | None, use: str) -> None:
    """Writes the card, and the pictures that it shows.

    Args:
        runs: what was exported; of several each is described in short.
        directory: of the export.
        library: the Hub's name for what loads it; None is for TensorFlow.
        use: Markdown.
    """
    if len(runs) == 1:
        body = body_of(runs[0], use)
        for picture in PICTURE.finditer(body):
            file = runs[0].directory / picture["file"]
            if file.is_file():
                shutil.copyfile(file, directory / file.name)
            else:
                body = body.replace(picture.group(), "")
    else:
        parts = [f"### {name_of(run)}\n\n{described(run.settings, run.metadata)}" for run in runs]
        body = "\n\n".join(["# Several models on one base", f"## Use\n\n{use}", *parts]) + "\n"
    text = f"---\n{head(runs, library)}\n---\n\n{body}"
    (directory / CARD_FILE).write_text(text, encoding="utf-8", newline="\n")


def name_of(run: FinishedRun) -> str:
    """What a run is called: its directory."""
    return run.directory.resolve().name


# --- the head ------------------------------------------------------------------------------------


def head(runs: Sequence[FinishedRun], library: str | None) -> str:
    """The YAML that the Hub reads, without the lines around it."""
    from huggingface_hub import EvalResult, ModelCardData

    kinds = {run.classifies for run in runs}
    tasks = {True: "text-classification", False: "text-generation"}
    pipeline = tasks[kinds.pop()] if len(kinds) == 1 else None
    tags = [TAG, *(["tensorflow", "saved-model"] if library is None else [])]
    data: dict[str, Any] = {"tags": tags, "library_name": library, "pipeline_tag": pipeline}
    if base := hub_base(runs[0]):
        data["base_model"] = base
    names = [run.metadata.dataset["name"].split(",")[0].strip() for run in runs]
    sources = [run.metadata.dataset["source"] for run in runs]
    datasets = [name for name, source in zip(names, sources, strict=True) if source == "hub"]
    if datasets := [name for name in dict.fromkeys(datasets) if HUB_NAME.fullmatch(name)]:
        data["datasets"] = datasets
    scores = test_scores(runs[0]) if len(runs) == 1 and pipeline else {}
    if scores:
        data["model_name"] = name_of(runs[0])
        data["eval_results"] = [
            EvalResult(
                task_type=pipeline or "",
                dataset_type=names[0],
                dataset_name=names[0],
                dataset_split="test",
                metric_type=SCORES[name][0],
                metric_name=SCORES[name][1],
                metric_value=value,
            )
            for name, value in scores.items()
        ]
    return ModelCardData(**data).to_yaml()


def hub_base(run: FinishedRun) -> str | None:
    """The base's name on the Hub; None where it came from elsewhere."""
    family = run.settings.get("family") or DEFAULT
    base = run.settings.get("pretrained") or published(run.settings["model_size"], family)
    if base == "none" or Path(base).is_dir():
        return None
    name = public_name(base)
    return name if HUB_NAME.fullmatch(name) else None


def test_scores(run: FinishedRun) -> dict[str, float]:
    """The run's figures on its test split that the Hub shows; none where it was not scored."""
    try:
        found: Mapping[str, Any] = read_json(run.directory / "test.json")
    except (OSError, UserError):
        return {}
    return {name: found[name] for name in SCORES if is_number(found.get(name))}


# --- the body ------------------------------------------------------------------------------------


def body_of(run: FinishedRun, use: str) -> str:
    """The run's own card with another use; in short where the run has none."""
    path = run.directory / CARD_FILE
    if not path.is_file():
        title = f"# {TITLES[run.classifies]}"
        return f"{title}\n\n{described(run.settings, run.metadata)}\n\n## Use\n\n{use}\n"
    text = HEAD.sub("", path.read_text(encoding="utf-8"))
    section = re.compile(SECTION.format(name="Use"), re.MULTILINE | re.DOTALL)
    own = f"## Use\n\n{use}\n\n"
    if not section.search(text):
        return f"{text.rstrip()}\n\n{own}"
    text = section.sub(lambda _: own, text, count=1)
    return FLAG.sub(without_paths, text)


def without_paths(line: re.Match[str]) -> str:
    """A line of the flags; nothing of one that names a directory of this machine."""
    value = line["value"].strip("'\"")
    return "" if Path(value).is_absolute() or line["name"].endswith("_dir") else line.group()


def is_export(directory: Path) -> bool:
    """Whether an export wrote what a directory holds: its card says so."""
    path = directory / CARD_FILE
    if path.is_symlink() or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        found = HEAD.match(file.read(2**16))
    return bool(found and re.search(rf"^- {TAG}$", found["fields"], re.MULTILINE))
