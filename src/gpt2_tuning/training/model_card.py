"""The README.md of a run: what was tuned on what, how well it does, and how to use it."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2_tuning.data.metadata import Metadata
from gpt2_tuning.files import write_text
from gpt2_tuning.plots import plot_curves

CARD_FILE = "README.md"
CURVES_FILE = "curves.png"


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What a finished run tells of itself."""

    title: str
    """What the model does."""
    example: str
    """The flags with which the task's test.py tries the model."""
    settings: Mapping[str, Any]
    """The flags the run was started with."""
    metadata: Metadata
    """The data it was tuned on."""
    history: Sequence[dict[str, float]]
    """One row of figures for each validation."""
    best_epoch: float
    """The epochs after which the weights were kept."""

    def write(self, run_dir: Path, scores: str, pictures: Mapping[str, str] | None = None) -> None:
        """Draws the learning curves and writes the card.

        Args:
            run_dir: the run's directory.
            scores: Markdown, what the run comes to on the validation split.
            pictures: files of the directory to show beside the curves, by what they show.
        """
        plot_curves(self.history, run_dir / CURVES_FILE)
        shown = {"learning curves": CURVES_FILE, **(pictures or {})}
        images = "\n".join(f"![{title}]({file})" for title, file in shown.items())
        flags = "\n".join(f"    {name}: {value}" for name, value in self.settings.items())
        write_text(
            run_dir / CARD_FILE,
            f"""# {self.title}

{described(self.settings, self.metadata)}

## Validation

{scores}

The weights are those of epoch {self.best_epoch} of {self.history[-1]["epoch"]}. They were chosen
on this very split, so the figures flatter the model a little; `test.py --evaluate` scores it on the
test split.

{images}

## Use

    python {self.metadata.task}_tuning/test.py --run_dir {run_dir.absolute()} {self.example}

## Flags

{flags}
""",
        )


def described(settings: Mapping[str, Any], metadata: Metadata) -> str:
    """What was tuned, into which classes if any, and on what: the first paragraphs of a card."""
    kind = f"LoRA, rank {settings['lora_rank']}" if settings["lora_rank"] else "every weight"
    base = settings["pretrained"] or settings["model_size"]
    base = "random" if base == "none" else base
    sizes = ", ".join(f"{entry['examples']:,} {name}" for name, entry in metadata.splits.items())
    paragraphs = [
        f"A GPT-2 ({settings['model_size']}) tuned with gpt2-tuning: {kind}; base weights: {base}."
    ]
    if metadata.label_names:
        paragraphs.append(f"Classes: {', '.join(metadata.label_names)}.")
    paragraphs.append(
        f"Data: {metadata.dataset['name']} ({metadata.dataset['source']}); examples: {sizes}.\n"
        f"Fingerprint of the rows: `{metadata.dataset['fingerprint']}`."
    )
    return "\n\n".join(paragraphs)
