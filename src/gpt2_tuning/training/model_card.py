"""The README.md of a run: what was tuned on what, how well it does, and how to use it."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.families.known import DEFAULT, FAMILIES, published
from gpt2_tuning.files import write_bytes
from gpt2_tuning.formats.hub import public_name
from gpt2_tuning.markdown import escaped
from gpt2_tuning.models.tunable import TunableModel
from gpt2_tuning.options.training import Unit
from gpt2_tuning.paths import step_command
from gpt2_tuning.plots import plot_curves

CARD_FILE = "README.md"
CURVES_FILE = "curves.png"
TEST_BEGINS = b"<!-- begin of the test scores, which test.py --evaluate replaces -->"
TEST_ENDS = b"<!-- end of the test scores -->"
TEST_SCORES = re.compile(re.escape(TEST_BEGINS) + b".*?" + re.escape(TEST_ENDS), re.DOTALL)
OF_LORA = ("lora_", "use_dora", "modules_to_save")
"""How the names of flags begin that are LoRA's."""
USE = b"## Use\n"
"""The heading before which the test scores stand in a card that has none yet."""


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What a finished run tells of itself."""

    title: str
    """What the model does."""
    example: str
    """The flags with which the task's test.py tries the model."""
    settings: Mapping[str, Any]
    """The flags the run was started with."""
    shape: str
    """The model that it really was; see `shape_of`."""
    metadata: Metadata
    """The data it was tuned on."""
    history: Sequence[dict[str, float]]
    """One row of figures for each validation."""
    best: Mapping[str, float]
    """The one whose weights were kept."""
    unit: Unit
    """What the run is counted in."""

    def write(
        self, run_dir: Path, scores: str, baseline: Mapping[str, float], baseline_name: str
    ) -> None:
        """Draws the learning curves and writes the card.

        Test scores that are there stay: only a run that was finished is resumed with its card.

        Args:
            run_dir: the run's directory.
            scores: Markdown, what the run comes to on the validation split.
            baseline, baseline_name: the `loss` and `accuracy` there to be beaten, and whose.
        """
        plot_curves(
            self.history,
            run_dir / CURVES_FILE,
            unit=self.unit,
            kept=self.best[self.unit],
            baseline=baseline,
            baseline_name=baseline_name,
            accuracy_name="accuracy" if self.metadata.label_names else "token accuracy",
            training=self.how_it_was_trained(),
        )
        text = f"""# {self.title}

{described(self.settings, self.metadata, self.shape)}

## Training

{self.kept()}

![learning curves]({CURVES_FILE})

## Validation

{self.choice()}

{scores}

## Use

    {step_command("test", self.metadata.task)} --run_dir {run_dir.absolute()} {self.example}

## Flags

{self.flags()}
"""
        path, card = run_dir / CARD_FILE, text.encode("utf-8")
        if path.is_file() and (found := TEST_SCORES.search(path.read_bytes())):
            card = with_test_scores(card, found.group())
        write_bytes(path, card)

    def how_it_was_trained(self) -> str:
        """Why training's figures are no others' equal."""
        found = {"weighted": "class_weights", "smoothed": "label_smoothing"}
        words = [word for word, name in found.items() if self.settings.get(name)]
        return ", ".join([*words, "dropout on"])

    def kept(self) -> str:
        """Which weights the run left."""
        best, last = self.best[self.unit], self.history[-1][self.unit]
        return f"The weights are those of {self.unit} {best:,g} of {last:,g}."

    def choice(self) -> str:
        """What the figures on the validation split are worth."""
        elsewhere = "`test.py --evaluate` scores it on the test split."
        if len(self.history) == 1:
            return f"There was nothing to choose among, so nothing was chosen on it;\n{elsewhere}"
        return (
            f"The {self.unit} was chosen on this very split, so the figures flatter the model a "
            f"little;\n{elsewhere}"
        )

    def flags(self) -> str:
        """The settings, a line each, without those of LoRA where there was none."""
        full = not self.settings["lora_rank"]
        return "\n".join(
            f"    {name}: {value}"
            for name, value in self.settings.items()
            if not (full and name != "lora_rank" and name.startswith(OF_LORA))
        )


def report_test_scores(run_dir: Path, scores: str) -> None:
    """Puts the test split's scores into a run's card, in the place of older ones, and says where.

    Every other byte of the card stays. A run without a card gets none, since a card is what says
    that it was finished.

    Args:
        run_dir: the run's directory, in which test.json is written.
        scores: Markdown.
    """
    print(f"figures: {run_dir / 'test.json'}")
    path = run_dir / CARD_FILE
    if not path.is_file():
        return
    section = TEST_BEGINS + f"\n\n## Test\n\n{scores}\n\n".encode() + TEST_ENDS
    write_bytes(path, with_test_scores(path.read_bytes(), section))
    print(f"report: {path}")


def with_test_scores(card: bytes, section: bytes) -> bytes:
    """A card with this section of test scores instead of its own.

    Where it has none, the section comes before the use; in a card without that, at the end.
    """
    if found := TEST_SCORES.search(card):
        return card[: found.start()] + section + card[found.end() :]
    before, use, after = card.partition(b"\n" + USE)
    if use:
        return before + b"\n" + section + b"\n\n" + USE + after
    return card + b"\n" + section + b"\n"


def described(settings: Mapping[str, Any], metadata: Metadata, shape: str = "") -> str:
    """What was tuned, into which classes if any, and on what: the first paragraphs of a card.

    Args:
        settings: the flags.
        metadata: the data.
        shape: what `shape_of` says of the model.
    """
    kind = f"LoRA, rank {settings['lora_rank']}" if settings["lora_rank"] else "every weight"
    if settings.get("tune", "all") != "all":
        kind = f"a part of the weights ({settings['tune']})"
    sizes = ", ".join(f"{entry['examples']:,} {name}" for name, entry in metadata.splits.items())
    family = FAMILIES[settings.get("family") or DEFAULT]
    tuned = f"A {family.title} tuned with gpt2-tuning: {kind}; base weights: {base_name(settings)}."
    paragraphs = [f"{tuned}\n{shape}".rstrip()]
    if metadata.label_names:
        paragraphs.append(f"Classes: {', '.join(map(escaped, metadata.label_names))}.")
    dataset = {name: escaped(value) for name, value in metadata.dataset.items()}
    paragraphs.append(
        f"Data: {dataset['name']} ({dataset['source']}); examples: {sizes}.\n"
        f"Fingerprint of the rows: `{dataset['fingerprint']}`."
    )
    return "\n\n".join(paragraphs)


def base_name(settings: Mapping[str, Any]) -> str:
    """Where the base weights came from: a name on the Hub, a directory's name, or nowhere."""
    size = published(settings["model_size"], settings.get("family") or DEFAULT)
    pretrained = settings["pretrained"] or size
    if pretrained == "none":
        return "random"
    if Path(pretrained).is_dir():
        return f"the directory {escaped(Path(pretrained).resolve().name)}"
    return escaped(public_name(pretrained))


def shape_of(model: TunableModel) -> str:
    """A sentence on a model's size, which is its own and not its flags', and on its parameters."""
    config, counts = model.config, model.count_parameters().values()
    tuned = sum(count.trainable for count in counts)
    total = tuned + sum(count.frozen for count in counts)
    decoder = config.decoder
    layers = f"{decoder.layers} layer{'s' * (decoder.layers != 1)} of width {decoder.width}"
    size = f" (size {config.size})" if config.size else ""
    share = "all" if tuned == total else f"{tuned:,}"
    return f"It has {layers}{size} and {total:,} parameters, of which {share} were tuned."
