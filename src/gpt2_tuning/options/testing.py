"""The flags of every test.py."""

import dataclasses
import math
from pathlib import Path
from typing import Any, ClassVar, Literal

import tyro

from gpt2_tuning import extras
from gpt2_tuning.errors import UserError
from gpt2_tuning.needs import Implied, Needs
from gpt2_tuning.options import effects
from gpt2_tuning.options.ranges import COUNTS, ROWS, SEEDS, require, require_whole

NOT_DECIDING = (
    *("run_dir", "dataset_dir", "input", "output", "resume", "strategy", "config"),
    *("evaluate", "rouge_rows", "interactive", "compare_base"),
    *("adapter", "text", "premise", "hypothesis", "prompt", "context"),
)
"""Flags of test.py that do not decide on the answers to a file: where things lie, how to begin, and
what to do beside them. Run and input count by their content."""

ADDED: dict[str, float] = {
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "no_repeat_ngram": 0,
    "strict": False,
    "cut_prompts": False,
}
"""Flags that came later, with the values that decide on nothing: answers that were begun before are
gone on with."""


@dataclasses.dataclass(frozen=True)
class TestOptions:
    """Flags that every test.py shares."""

    PLACES: ClassVar[tuple[str, ...]] = ("run_dir",)

    run_dir: Path | None = None
    """A finished run. Default: the newest one of the task."""
    adapter: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """Answer under this adapter of the run's base in place of the run's own: a directory of PEFT's,
    a run, or a run's name. Given several times, the answers stand side by side; without --run_dir
    the first of them that is a run is that."""
    dataset_dir: Path | None = None
    """Prepared data for --evaluate. Default: where the run's own data was."""
    input: Path | None = None
    """Rows to label: JSON lines, or any format that preparation reads."""
    output: Path | None = None
    """Where the labelled rows go, as JSON lines."""
    strict: bool = False
    """Refuse an --input of which a row cannot be answered, in place of a null there."""
    resume: bool = False
    """Go on with an --output that was interrupted: needs the same flags, input and run."""
    evaluate: bool = False
    """Score the run on its test split."""
    interactive: bool = False
    """Ask for one text after another."""
    batch_size: int = 32
    """Texts computed together."""
    strategy: Literal["auto", "one", "mirrored"] = "auto"
    """Devices: every visible GPU (auto, mirrored) or only the first (one)."""
    config: Path | None = None
    """A YAML file of flags (`name: value` lines); flags on the command line come first."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        require_whole("batch_size", 1, ROWS, self)
        if self.adapter and (self.input or self.evaluate or self.interactive):
            raise UserError(
                "--adapter answers what is given on the command line: leave out --input, "
                "--evaluate and --interactive"
            )
        if self.output and not self.input:
            raise UserError("--output needs --input")
        if self.strict and not self.input:
            raise UserError("--strict needs --input")
        if self.resume and not self.output:
            raise UserError("--resume needs --output")

    def deciding(self) -> dict[str, Any]:
        """The flags that decide on the answers to a file: all but those known not to."""
        every = dataclasses.asdict(self)
        return {
            name: value
            for name, value in every.items()
            if name not in NOT_DECIDING and (name, value) not in ADDED.items()
        }


@dataclasses.dataclass(frozen=True)
class LabelOptions(TestOptions):
    """Flags of a classifier's test.py, which adds those that hold what is to be labelled."""

    NEEDS: ClassVar[Needs] = effects.LABEL

    def texts(self) -> dict[str, tuple[str, ...]]:
        """The flags that make up an example, and what each was given, in order."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises UserError when there is nothing to do, or a text is empty or lacks its partner."""
        super().check()
        texts = self.texts()
        flags = " and ".join(f"--{name}" for name in texts)
        if not (any(texts.values()) or self.input or self.evaluate or self.interactive):
            raise UserError(f"nothing to do: give {flags}, --input, --evaluate or --interactive")
        if len({len(given) for given in texts.values()}) > 1:
            counts = ", ".join(f"{len(given)} of --{name}" for name, given in texts.items())
            raise UserError(
                f"{flags} go together, as many of the one as of the other, not {counts}"
            )
        for name, given in texts.items():
            if not all(text.strip() for text in given):
                raise UserError(f"--{name} is empty")


@dataclasses.dataclass(frozen=True)
class GenerationOptions(TestOptions):
    """Flags of a language model's test.py."""

    NEEDS: ClassVar[Needs] = effects.GENERATION
    IMPLIED: ClassVar[Implied] = effects.SAMPLING

    prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What to respond to; may be given several times."""
    max_new_tokens: int = 128
    """Longest response, in tokens."""
    sampling_method: Literal["greedy", "temperature", "top_k", "top_p"] = "greedy"
    """How each token is chosen."""
    temperature: float = 1.0
    """Below 1 the likely tokens become likelier, above 1 less so."""
    top_k: int = 50
    """With top_k: how many of the likeliest tokens are drawn from."""
    top_p: float = 0.9
    """With top_p: the tokens drawn from are the fewest whose probabilities reach this."""
    min_p: float = 0.0
    """Draw no token that is less likely than this share of the likeliest one's probability."""
    repetition_penalty: float = 1.0
    """Above 1 the tokens of the prompt and of the response so far become less likely."""
    presence_penalty: float = 0.0
    """Above 0 the tokens of the response so far become less likely."""
    frequency_penalty: float = 0.0
    """Above 0 they do so for each time that they came."""
    no_repeat_ngram: int = 0
    """No so many tokens in a row come twice in prompt and response; 0 allows all."""
    cut_prompts: bool = False
    """Cut prompts of --input that are too long for the model: the end of the context, or of plain
    text the beginning."""
    stop: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A text before which responses end; may be given several times."""
    seed: int = 0
    """The same seed draws the same responses."""
    compare_base: bool = False
    """Print what the base says beside what the tuned model says."""
    rouge_rows: int | None = None
    """With --evaluate: responses to compare with the data's by ROUGE-L; 0 for none. Default: 50
    where rouge-score is installed."""
    batch_size: int = 8
    """Prompts computed together."""

    @property
    def writes(self) -> bool:
        """Whether anything is generated."""
        asked = self.prompt or self.input or self.interactive
        return bool(asked or (self.evaluate and self.rouge_rows != 0))

    def check(self) -> None:
        """Raises UserError when there is nothing to do, or a value is out of its range."""
        super().check()
        if not (self.prompt or self.input or self.evaluate or self.interactive):
            raise UserError("nothing to do: give --prompt, --input, --evaluate or --interactive")
        if not all(text.strip() for text in self.prompt):
            raise UserError("--prompt is empty")
        if "" in self.stop:
            raise UserError("--stop is empty")
        if self.compare_base and not self.prompt:
            raise UserError("--compare_base needs --prompt")
        require((self.rouge_rows or 0) >= 0, "rouge_rows", "0 or more", self)
        if self.rouge_rows:
            extras.check_installed("rouge", f"--rouge_rows {self.rouge_rows}")
        require_whole("max_new_tokens", 1, COUNTS, self)
        require(0 < self.temperature < math.inf, "temperature", "above 0 and finite", self)
        require(0 <= self.seed < SEEDS, "seed", f"from 0 to {SEEDS - 1}", self)
        require(1 <= self.top_k < 2**31, "top_k", "at least 1 and below 2^31", self)
        require(0 < self.top_p <= 1, "top_p", "above 0 and at most 1", self)
        require(0 <= self.min_p <= 1, "min_p", "from 0 to 1", self)
        penalty = self.repetition_penalty
        require(0 < penalty < math.inf, "repetition_penalty", "above 0 and finite", self)
        require(-2 <= self.presence_penalty <= 2, "presence_penalty", "from -2 to 2", self)
        require(-2 <= self.frequency_penalty <= 2, "frequency_penalty", "from -2 to 2", self)
        ngram = self.no_repeat_ngram
        require(0 <= ngram < 2**31, "no_repeat_ngram", "at least 0 and below 2^31", self)
