"""The flags of every train.py."""

import dataclasses
import math
import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from gpt2_tuning.cluster import Cluster
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.known import (
    DEFAULT,
    check_targets,
    config_of_size,
    family_named,
    some_are_known,
)
from gpt2_tuning.layer_names import ALL, NONE, blocks_of, modules_of
from gpt2_tuning.needs import Implied, Needs
from gpt2_tuning.options import effects
from gpt2_tuning.options.ranges import (
    COUNTS,
    DEVICES,
    PARTS,
    ROWS,
    RUNS,
    SEEDS,
    require,
    require_whole,
)

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Unit = Literal["epoch", "update"]


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """Flags that every train.py shares."""

    CPU_LAYOUT: ClassVar[Literal["buckets", "packed"]] = "buckets"
    NEEDS: ClassVar[Needs] = effects.TRAIN
    IMPLIED: ClassVar[Implied] = effects.TUNE
    PLACES: ClassVar[tuple[str, ...]] = ("dataset_dir", "output_dir")

    dataset_dir: Path | None = None
    """Prepared data. Default: tfrecords/<task> at the repository's top, or else in the working
    directory."""
    output_dir: Path | None = None
    """The run directory. Default: experiments/runs/<task>/<base>-<date and time>."""
    family: str | None = None
    """Kind of base: gpt2, gpt_neo, gpt_neox, llama, mistral, qwen2 or qwen3. Default: that of the
    config.json of --pretrained, else gpt2."""
    model_size: str = "124M"
    """tiny, mini, 124M, 355M, 774M or 1.5B; other families than gpt2 have tiny, mini and sizes of
    their own."""
    pretrained: str | None = None
    """Base weights: a Hub name, a directory, or `none` for random ones. Default: the size's own."""
    lora_rank: int = 8
    """Rank of the LoRA update; 0 tunes every weight."""
    lora_alpha: float = 16.0
    """The LoRA update is scaled by alpha / rank."""
    lora_dropout: float = 0.05
    """Dropout on the input of the LoRA update."""
    lora_targets: tuple[str, ...] = ()
    """Layers that LoRA adapts, or all-linear for all of them: attn.c_attn, attn.c_proj, mlp.c_fc,
    mlp.c_proj of gpt2; q_proj, k_proj, v_proj, out_proj, c_fc, c_proj of gpt_neo; query_key_value,
    dense, dense_h_to_4h, dense_4h_to_h of gpt_neox; q_proj, k_proj, v_proj, o_proj, gate_proj,
    up_proj, down_proj of llama and its kin. Default: attn.c_attn and attn.c_proj; query_key_value;
    q_proj and v_proj."""
    lora_layers: str = ALL
    """Blocks that LoRA adapts, by number from 0, such as 0,10-11."""
    lora_init: Literal["default", "pissa", "olora"] = "default"
    """What the updates begin as: nothing, or the kernels' largest singular values (pissa) or first
    directions (olora), which the base then goes without. The adapter is saved for the plain base,
    with twice the rank."""
    use_dora: bool = False
    """DoRA: the lengths of an adapted layer's weights are tuned by themselves."""
    lora_bias: Literal["none", "all", "lora_only"] = "none"
    """Biases that are tuned with the updates: every one, or those of the adapted layers."""
    modules_to_save: str = NONE
    """What is tuned whole with the updates, such as wte,ln_f or lm_head; of llama and its kin
    embed_tokens, norm and lm_head."""
    lora_plus: bool = False
    """LoRA+: B learns at a higher rate than A."""
    lora_plus_ratio: float = 16.0
    """With --lora_plus: B's rate over A's."""
    tune: str = "all"
    """Without LoRA: every weight (all), a classifier's head alone (head), the biases (biases), or
    the last N blocks (last:N); a classifier's head is tuned with any of them."""
    adapter: Path | None = None
    """Go on tuning from this adapter, a directory of PEFT's or a run: it says rank, targets and,
    unless a flag does, base."""
    continue_: Annotated[Path | None, tyro.conf.arg(name="continue")] = None
    """Begin with what this finished run has tuned, in its way (LoRA or full) and on its data unless
    --dataset_dir names other; it stays as it is."""
    epochs: int = 3
    """Passes over the training rows."""
    max_updates: int | None = None
    """End after so many updates, however many epochs they are; --epochs then has no effect."""
    batch_size: int = 32
    """Examples in one update, over all devices."""
    gradient_accumulation: int = 1
    """Compute each device's share of a batch in this many parts, for the memory of one of them."""
    layout: Literal["auto", "buckets", "packed"] = "auto"
    """Rows of a batch: each example padded to one of a few lengths (buckets), or several examples a
    row, apart from each other, in rows of one size (packed). auto is packed on a GPU and what is
    fastest on a CPU; a resumed run keeps what it was begun with."""
    learning_rate: float | None = None
    """Peak of the schedule. Default: 2e-4 with LoRA, 5e-5 without, 6e-4 from random weights, 1e-3
    for biases or a head alone."""
    warmup_share: float = 0.1
    """Share of all updates over which the learning rate rises, before it falls along a cosine."""
    weight_decay: float = 0.01
    """AdamW's decay of weight matrices; biases and LayerNorms have none."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this global norm."""
    patience: int | None = 2
    """Stop after this many validations without improvement; None never stops early."""
    validate_every: int | None = None
    """Updates between two validations; the run's end has one too. Default: one an epoch."""
    monitor: Literal["val_accuracy", "val_loss"] = "val_loss"
    """What is compared on validation to keep the best weights and to stop; between equals the lower
    val_loss decides. A language model's val_accuracy is that of its tokens."""
    checkpoint_steps: int = 500
    """Updates between two checkpoints; every validation has one too."""
    keep_checkpoints: bool = False
    """Keep the last checkpoints of a finished run, which nothing needs any more."""
    seed: int = 0
    """Seeds the initial weights, the order of the rows and dropout."""
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    """Adafactor keeps about one float32 of its own for every tuned weight, AdamW two."""
    precision: Precision = "auto"
    """Type of the computation; weights that are tuned stay in float32. auto is bfloat16 on GPUs
    that have units for it (A100, L4), float16 on others (T4), float32 on a CPU."""
    tensor_float_32: bool = True
    """Let a GPU round the factors of float32's products to 10 bits, for several times the speed."""
    rematerialize: bool = False
    """Compute each block again for its gradient: about a third less memory, half as slow again."""
    strategy: Literal["auto", "one", "mirrored", "multi_worker"] = "auto"
    """Devices: every visible GPU (auto, mirrored), only the first (one), or those of the several
    processes that TF_CONFIG names (multi_worker)."""
    logical_devices: int | None = None
    """With mirrored: let the CPU appear as this many devices, and leave GPUs alone."""
    resume: bool = False
    """Continue the run in --output_dir from its newest checkpoint."""
    overwrite: bool = False
    """Replace a run that is already in --output_dir."""
    config: Path | None = None
    """A YAML file of flags (`name: value` lines); flags on the command line come first."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        for name in ("epochs", "checkpoint_steps", "max_updates", "validate_every"):
            require_whole(name, 1, COUNTS, self)
        require_whole("batch_size", 1, ROWS, self)
        require_whole("gradient_accumulation", 1, PARTS, self)
        self.check_model()
        rate = self.learning_rate
        require(rate is None or 0 < rate < math.inf, "learning_rate", "a number above 0", self)
        require(0 <= self.warmup_share <= 1, "warmup_share", "in [0, 1]", self)
        require(0 <= self.weight_decay < math.inf, "weight_decay", "a number of at least 0", self)
        require(self.max_grad_norm > 0, "max_grad_norm", "above 0", self)
        require(0 <= self.seed < SEEDS, "seed", f"from 0 to {SEEDS - 1}", self)
        require(self.patience is None or self.patience >= 0, "patience", "0 or more", self)
        if self.adapter is not None and self.continue_ is not None:
            raise UserError(
                "--adapter and --continue exclude each other: both say what to begin with"
            )
        if self.resume and self.overwrite:
            raise UserError("--resume and --overwrite exclude each other")
        self.check_devices()

    @property
    def unit(self) -> Unit:
        """What a run is counted in: updates, where a flag says so."""
        by_updates = (self.max_updates or self.validate_every) is not None
        return "update" if by_updates else "epoch"

    def updates(self, steps: int) -> int:
        """Updates of a whole run, where an epoch has so many `steps`."""
        return self.epochs * steps if self.max_updates is None else self.max_updates

    def check_model(self) -> None:
        """Raises UserError when there is no such family or size, or LoRA cannot be so."""
        try:
            family = family_named(self.family or DEFAULT)
        except UserError as error:
            raise UserError(f"--family: {error}") from error
        # Where no size is given, the data may say the base.
        open_size = self.pretrained is None and self.model_size == type(self).model_size
        if self.family is None or (self.pretrained in (None, "none") and not open_size):
            try:
                config_of_size(self.model_size, family.name)
            except UserError as error:
                raise UserError(f"--model_size: {error}") from error
        require(self.lora_rank >= 0, "lora_rank", "0 (full tuning) or more", self)
        require(
            re.fullmatch(r"all|head|biases|last:[1-9][0-9]{0,3}", self.tune) is not None,
            "tune",
            "all, head, biases or last:N, such as last:2",
            self,
        )
        if self.tune != "all" and self.lora_rank:
            raise UserError(
                f"--tune {self.tune} needs --lora_rank 0: with LoRA the updates are tuned, and a "
                "classifier's head"
            )
        ratio = self.lora_plus_ratio
        require(0 < ratio < math.inf, "lora_plus_ratio", "a number above 0", self)
        if self.lora_rank:
            require(0 < self.lora_alpha < math.inf, "lora_alpha", "a number above 0", self)
            require(0 <= self.lora_dropout < 1, "lora_dropout", "at least 0 and below 1", self)
            words = "all, or blocks by number from 0, such as 0,10-11"
            require(blocks_of(self.lora_layers) is not None, "lora_layers", words, self)
            # Of other weights than the flags name the family is known when they are read.
            if self.use_dora and self.lora_init != "default":
                raise UserError(f"--use_dora does not go with --lora_init {self.lora_init}")
            modules = modules_of(self.modules_to_save)
            once = len(set(modules)) == len(modules) and all(modules)
            require(once, "modules_to_save", "none, or names with commas, such as wte,ln_f", self)
            named = self.family is not None or self.pretrained in (None, "none")
            by_data = self.family is None and open_size and some_are_known(self.lora_targets)
            if named and not by_data:
                check_targets(family, self.lora_targets)

    def check_devices(self) -> None:
        """Raises UserError when the devices cannot be those wanted."""
        if self.logical_devices is not None:
            require_whole("logical_devices", 1, DEVICES, self)
            if self.strategy != "mirrored":
                raise UserError("--logical_devices needs --strategy mirrored")
        parts = (self.logical_devices or 1) * self.gradient_accumulation
        if parts > self.batch_size and not self.resume:
            raise UserError(
                f"a batch of {self.batch_size} cannot be divided into {parts} parts (devices x "
                "--gradient_accumulation): some would have nothing to compute, so give a larger "
                "--batch_size or fewer parts"
            )
        if self.strategy == "multi_worker":
            Cluster.from_environment()
            if self.output_dir is None:
                raise UserError(
                    "--strategy multi_worker needs --output_dir: a directory all workers can read"
                )


@dataclasses.dataclass(frozen=True)
class ClassifierOptions(TrainOptions):
    """Flags that a classifier's train.py adds."""

    monitor: Literal["val_accuracy", "val_loss"] = "val_accuracy"
    """What is compared on validation to keep the best weights and to stop; between equals the lower
    val_loss decides."""
    class_weights: str | None = None
    """How much the classes count in training: `balanced`, each class as much as any other, or a
    JSON or YAML file with a number for each class. Validation and scores weigh nothing."""
    label_smoothing: float | None = None
    """Share of the right answer that training spreads over all classes, such as 0.1."""
    seeds: int = 1
    """Train this many times, from --seed on: each a run in a directory of its own (seed-0, ...)."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        super().check()
        require_whole("seeds", 1, RUNS, self)
        smoothing = self.label_smoothing
        require(smoothing is None or 0 <= smoothing < 1, "label_smoothing", "in [0, 1)", self)
        last = self.seed + self.seeds - 1
        require(
            last < SEEDS, "seed", f"below {SEEDS - self.seeds + 1} for --seeds {self.seeds}", self
        )
        if self.seeds > 1 and self.strategy == "multi_worker":
            raise UserError("--seeds above 1 is for one process: run multi_worker once a --seed")


@dataclasses.dataclass(frozen=True)
class LanguageModelOptions(TrainOptions):
    """Flags that a language model's train.py adds."""

    CPU_LAYOUT: ClassVar[Literal["buckets", "packed"]] = "packed"
    batch_size: int = 8
    """Rows in one update, over all devices: packed ones of up to seq_len tokens, or with --layout
    buckets examples."""

    def check(self) -> None:
        """Raises UserError when a value is out of its range."""
        super().check()
        if self.tune == "head":
            raise UserError(
                "--tune head is for classifiers: a language model's head is its token embedding"
            )
