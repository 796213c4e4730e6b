"""Adapters on disk: what a directory holds, several made into one, one made part of its base.

gpt2-tuning adapters show --adapter runs/tone
"""

import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

import tyro

from gpt2_tuning import cli, flags
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import check_kept, check_place
from gpt2_tuning.needs import Need, Needs
from gpt2_tuning.options.ranges import SEEDS, require

if TYPE_CHECKING:  # they import TensorFlow
    from gpt2_tuning.formats.adapter_files import Header
    from gpt2_tuning.formats.adapters import AdapterExtra
    from gpt2_tuning.runs.adapter_places import AdapterPlace

NEAR = 0.6
"""How alike what was written and an action are, from 0 to 1: there are few to choose among."""
THINS_OUT = ("ties", "dare_linear", "dare_ties")


@dataclasses.dataclass(frozen=True)
class ShowOptions:
    """What a directory holds, and on what base."""

    adapter: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A directory in PEFT's format, or a run; may be given several times."""
    base: str | None = None
    """A base, by Hub name or directory: says whether the adapter was tuned on it."""

    def check(self) -> None:
        """Raises UserError when there is nothing to show."""
        if not self.adapter:
            raise UserError("--adapter must be given (--help lists the flags)")


@dataclasses.dataclass(frozen=True)
class MergeOptions:
    """Adds an adapter to its base, and writes that as a plain Hugging Face model."""

    adapter: Path
    """A directory in PEFT's format, or a run."""
    output_dir: Path
    """Where the model goes."""
    base: str | None = None
    """The base, by Hub name or directory. Default: the one that the adapter names."""


@dataclasses.dataclass(frozen=True)
class MixOptions:
    """Makes one adapter of several on one base, in PEFT's format."""

    NEEDS: ClassVar[Needs] = {
        "density": [
            Need(
                lambda o: o.method in THINS_OUT,
                f"--method {', '.join(THINS_OUT[:-1])} or dare_ties",
            )
        ],
        "seed": [
            Need(
                lambda o: o.method.startswith("dare") and o.density < 1,
                "--method dare_linear or dare_ties",
            )
        ],
    }

    output_dir: Path
    """Where the adapter goes."""
    adapter: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """A directory in PEFT's format, or a run; given once for each."""
    weights: tuple[float, ...] = ()
    """How much each counts, in their order. Default: the same, together 1."""
    method: Literal["linear", "cat", "ties", "dare_linear", "dare_ties"] = "cat"
    """cat is exactly the weighted sum of the updates, and its rank the sum of theirs; linear sums A
    and B apart, which keeps the rank; ties and dare thin out before (TIES, DARE)."""
    density: float = 0.5
    """With ties and dare: the share of each adapter's numbers that is kept."""
    seed: int = 0
    """With dare: draws which."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        if len(self.adapter) < 2:
            raise UserError("--adapter must be given twice or more: there is nothing to mix")
        if self.weights and len(self.weights) != len(self.adapter):
            raise UserError(
                f"--weights needs a number for each of {len(self.adapter)} adapters, not "
                f"{len(self.weights)}"
            )
        if not all(map(math.isfinite, self.weights)):
            raise UserError("--weights must be finite numbers")
        require(0 < self.density <= 1, "density", "above 0 and at most 1", self)
        require(0 <= self.seed < SEEDS, "seed", f"from 0 to {SEEDS - 1}", self)

    @property
    def shares(self) -> tuple[float, ...]:
        """How much each counts."""
        return self.weights or (1 / len(self.adapter),) * len(self.adapter)


def show(options: ShowOptions) -> None:
    """Prints a few lines for each adapter."""
    from gpt2_tuning.formats import adapters, hub, huggingface
    from gpt2_tuning.formats.directory import read_checkpoint
    from gpt2_tuning.runs.adapter_places import adapter_place

    base_sum = None
    if options.base is not None:
        checkpoint = read_checkpoint(hub.find_checkpoint(options.base, "--base"))
        base_sum = huggingface.sha256_of_base(checkpoint)
    for given in options.adapter:
        place = adapter_place(given)
        lines = described(place, *adapters.read_adapter_config(place.directory))
        width = max(len(name) for name, _ in lines)
        for name, value in lines:
            print(f"{name:{width}} {value}")
        if base_sum is not None:
            recorded = adapters.read_adapter_config(place.directory)[1].base_sha256
            answer = "the adapter does not say" if recorded is None else (
                "yes" if recorded == base_sum else "no: that base has other weights"
            )  # fmt: skip
            print(f"{'tuned on':{width}} {options.base}: {answer}")
        print()


def described(place: "AdapterPlace", lora: Any, extra: "AdapterExtra") -> list[tuple[str, str]]:
    """What is to be said of an adapter, line by line."""
    from gpt2_tuning.files import sha256_of
    from gpt2_tuning.formats.adapters import WEIGHTS_FILE, read_header

    header = read_header(place.directory)
    layers = places(lora, header)
    lines = [
        ("adapter", str(place.directory)),
        ("family", header.family.name),
        ("base", place.base or extra.base_name or "not named"),
        ("base sum", extra.base_sha256 or "not recorded"),
    ]
    lines += layers
    if lora.init != "default":
        lines.append(("begins as", f"a part of the base's kernels ({lora.init})"))
    if lora.use_dora:
        lines.append(("DoRA", "a length of its own for each output"))
    if lora.bias != "none":
        lines.append(("biases", lora.bias))
    if lora.modules_to_save:
        lines.append(("tuned whole", ", ".join(lora.modules_to_save)))
    if extra.num_classes:
        names = ", ".join(extra.label_names or []) or "without names"
        lines.append(("classes", f"{extra.num_classes}: {names}"))
    parameters = sum(math.prod(shape) for shape in header.shapes.values())
    lines.append(("parameters", f"{parameters:,}"))
    lines.append(("file sum", sha256_of(place.directory / WEIGHTS_FILE)))
    return lines


def places(lora: Any, header: "Header") -> list[tuple[str, str]]:
    """A line for each target; one for each layer of a target whose blocks differ."""
    matches = [match for match in map(header.family.lora_name, header.shapes) if match]
    blocks = 1 + max(int(match["block"]) for match in matches)
    lines = []
    for target in lora.targets:
        found = [(block, lora.update_of(target, block)) for block in range(blocks)]
        updates = {block: one for block, one in found if one}
        alike = len(set(updates.values())) == 1
        for block, one in list(updates.items())[: 1 if alike else None]:
            where = f" in blocks {', '.join(map(str, updates))}" if len(updates) < blocks else ""
            size = f"rank {one.rank}, scaled by {one.scaling:g}"
            lines.append((target, size + where) if alike else (f"{block}.{target}", size))
    return lines


def merge(options: MergeOptions) -> None:
    """Writes base + update as a model of the kind that the adapter is for."""
    from gpt2_tuning.formats import adapter_files, adapters, hub
    from gpt2_tuning.models.backbone import Backbone
    from gpt2_tuning.models.classifier import Classifier
    from gpt2_tuning.models.language_model import LanguageModel
    from gpt2_tuning.models.tunable import TunableModel
    from gpt2_tuning.runs.adapter_places import adapter_place

    place = adapter_place(options.adapter)
    lora, extra = adapters.read_adapter_config(place.directory)
    base = options.base or place.base or extra.base_name
    if base is None or base == "none":
        raise UserError(f"{place.directory} names no base: give --base")
    check_place(options.output_dir, "--output_dir")
    check_kept(options.output_dir, [place.directory, hub.find_checkpoint(base, "--base")])
    arguments: dict[str, Any] = {"lora": lora}
    kind: type[TunableModel] = Backbone
    if extra.num_classes:
        kind = Classifier
        named = {"label_names": extra.label_names, "num_classes": extra.num_classes}
        arguments |= {name: value for name, value in named.items() if value}
    elif adapter_files.read_header(place.directory).prefix != adapter_files.PEFT_PREFIX:
        kind = LanguageModel
    model = kind.from_pretrained_silently(base, **arguments)
    model.load_adapter(place.directory)
    model.merge_and_export(options.output_dir)
    print(f"model: {options.output_dir}")


def mix(options: MixOptions) -> None:
    """Writes one adapter of several."""
    from gpt2_tuning.formats import mixed_adapters
    from gpt2_tuning.runs.adapter_places import adapter_place

    check_place(options.output_dir, "--output_dir")
    places = [adapter_place(given) for given in options.adapter]
    # A run names a base that its adapter does not where that is random, and kept in the run.
    bases = [place.base for place in places if place.base not in (None, "none")]
    mixed_adapters.mix(
        [place.directory for place in places],
        options.shares,
        options.output_dir,
        method=options.method,
        density=options.density,
        seed=options.seed,
        base_name=next(iter(bases), None),
    )
    print(f"adapter: {options.output_dir}")


ACTIONS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "show": (ShowOptions, show),
    "merge": (MergeOptions, merge),
    "mix": (MixOptions, mix),
}
Options: Any = Union[  # noqa: UP007  # of as many as there are
    tuple(
        Annotated[Any, tyro.conf.subcommand(name=name, constructor=options)]
        for name, (options, _) in ACTIONS.items()
    )
]
"""Of all actions, for the shells' completion."""


def main(argv: Sequence[str] | None = None, program: str | None = None) -> int:
    """Runs the action that is named first; returns the exit code."""
    first, *rest = list(sys.argv[1:] if argv is None else argv) or [""]
    program = program or "gpt2-tuning adapters"
    if first in flags.HELP:
        tyro.cli(Options, prog=program, args=flags.HELP[:1], use_underscores=True)
    if first not in ACTIONS:
        asked = f"unknown action {first}" if first else "no action is given"
        advice = flags.advice(first, ACTIONS, cutoff=NEAR) if first else ""
        return cli.refused(UserError(f"{asked}{advice} (there are {', '.join(ACTIONS)})"))
    options, action = ACTIONS[first]
    return cli.run(options, action, rest, f"{program} {first}")


if __name__ == "__main__":
    sys.exit(main())
