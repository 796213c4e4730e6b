"""LoRA on models with and without a head: what is tuned, switched off, merged and saved apart."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats import adapters
from gpt2_tuning.models import added, merging, parameters, parts
from gpt2_tuning.models.gate import OWN, Adapter, Choice, Gate
from gpt2_tuning.models.keras_training import KerasTraining
from gpt2_tuning.models.parameters import ParameterCount


class TunableModel(KerasTraining):
    """A Keras model around a decoder: it compiles, fits and predicts as any other."""

    @property
    def adapters(self) -> list[str]:
        """The names of its adapters: `default`, which it was made with, and those added."""
        return self.gate.names if self.gate else []

    @property
    def chosen_adapters(self) -> dict[str, float]:
        """The adapters that are computed, with their shares."""
        return dict(self.gate.chosen) if self.gate else {}

    def add_adapter(
        self,
        name: str,
        lora: LoRAConfig | Mapping[str, Any],
        label_names: Sequence[str] | None = None,
    ) -> None:
        """Adds an adapter, B zero, and chooses it; a model made without LoRA takes one too.

        What Keras traced is traced anew. A function of your own that was traced before must be made
        anew: it goes on without the adapter. A compiled model must be compiled again before `fit`.

        Args:
            name: how it is called from now on.
            lora: a LoRAConfig or a dict of its fields.
            label_names: the classes of a classifier's own head, which begins at random. Default:
                the model's.

        Raises:
            UserError: the name is taken, the base has no such layers, or the model is merged.
        """
        self._check_new(name, "add_adapter()")
        config = LoRAConfig.of(lora)
        assert config is not None
        names = (label_names or self.label_names) if self.head_weights() else None
        if label_names is not None and names is None:
            raise UserError("label_names are for a classifier's adapter")
        if names is not None and len(set(names)) < max(2, len(names)):
            raise UserError(f"a classifier needs two classes or more, all different, not {names}")
        self._take(name, added.new_adapter(self, config, names))

    def set_adapter(self, choice: Choice) -> None:
        """Chooses what is computed and trained, in functions that are already traced too.

        Args:
            choice: an adapter's name; a dict of several, with the share of each; None for the base.

        Raises:
            UserError: there is no such adapter, a share is no finite number, the heads of several
                cannot be mixed, or the model is merged.
        """
        self._require_unmerged("set_adapter()")
        shares = self.checked_choice(choice)
        if self.gate is not None:
            self.gate.choose(shares)

    def delete_adapter(self, name: str) -> None:
        """Removes an adapter that was added; what was chosen beside it stays chosen.

        Raises:
            UserError: there is none of this name, or the model was made with it, or is merged.
        """
        self._require_unmerged("delete_adapter()")
        self.checked_choice(name)
        if name == OWN:
            raise UserError(
                f"{OWN!r} is a part of the model's layers: set_adapter(None) leaves it out"
            )
        gate = self.gate
        assert gate is not None
        gate.choose({other: share for other, share in gate.chosen.items() if other != name})
        del gate.added[name]
        gate.revision += 1
        if not gate.names:
            self.gate = None
        self.forget_traces()

    def freeze_all_but_lora(self) -> None:
        """From the next `fit` on, only LoRA weights and the classifier's `score` head change.

        Of several adapters those that are chosen change, each with its head.

        Raises:
            UserError: the model was made without LoRA.
        """
        self._require_lora("freeze_all_but_lora()")
        self.built_now()
        kept = {id(variable) for variable in adapters.adapter_variables(self).values()}
        kept |= {id(variable) for variable in self.added_weights().values()}
        for variable in self.weights:
            if id(variable) not in kept:
                variable.trainable = False
        # A function traced before would go on updating the weights that are now frozen.
        self.train_function = None

    def freeze_all_but(self, part: str) -> None:
        """From the next `fit` on, only a part of a model without LoRA changes, and its head.

        Args:
            part: "head" is the classifier's head alone; "biases" all biases; "last:2" the last two
                blocks and the normalisation after them.

        Raises:
            UserError: there is no such part.
        """
        names = parts.trained_names(self.built_now(), part)
        for name, variable in self.base_weights().items():
            variable.trainable = name in names
        # A function traced before would go on updating the weights that are now frozen.
        self.train_function = None

    @contextlib.contextmanager
    def disable_lora(self) -> Iterator[None]:
        """Inside the block the model computes exactly as its base does, traced functions too.

        Raises:
            UserError: the model was made without LoRA, or is merged.
        """
        gate = self._require_lora("disable_lora()")
        self._require_unmerged("disable_lora()")
        before = gate.on
        gate.set(False)
        try:
            yield
        finally:
            gate.set(before)

    def merge(self) -> float:
        """Adds the LoRA updates to the kernels, which then compute alone; twice equals once.

        Of several adapters it is the mixture that is chosen.

        `predict`, `evaluate`, `fit` and generation are traced anew, without the updates' products.
        A function of your own that was traced before goes on with them, and computes the same.

        Returns:
            The largest difference of the outputs on a probe batch, as a share of the largest
            output; at most 1e-4.

        Raises:
            UserError: the difference is larger, the base is held rounded, or no adapter is chosen;
                the model is as it was before.
        """
        gate = self._require_lora("merge()")
        self._require_exact("merge()")
        difference = merging.merge(self.built_now(), gate)
        self.forget_traces()
        return difference

    def unmerge(self) -> None:
        """Takes the updates out of the kernels again, bit for bit.

        A function of your own that was traced while they were merged must be made anew: it raises
        an error (but not where XLA compiles it).
        """
        merging.unmerge(self, self._require_lora("unmerge()"))
        self.forget_traces()

    def merge_and_export(self, directory: str | Path) -> None:
        """Writes base + updates as a plain Hugging Face GPT-2, float32; the model stays as it is.

        Of several adapters it is the mixture that is chosen, with its head.

        Raises:
            UserError: the model was made without LoRA, its base is held rounded, or the directory
                holds other files.
        """
        self._require_lora("merge_and_export()")
        self._require_exact("merge_and_export()")
        merging.merge_and_export(self.built_now(), Path(directory))

    def save_adapter(self, directory: str | Path, name: str | None = None) -> None:
        """Writes the LoRA weights and the classifier's head of an adapter as PEFT reads them.

        Args:
            directory: new, or one that an earlier call wrote.
            name: the adapter's. Default: the one that the model was made with, or the only one.

        Raises:
            UserError: there is none of this name, or several to choose among, or the directory
                holds other files.
        """
        gate = self._require_lora("save_adapter()")
        if name is None:
            if not gate.own and len(gate.added) > 1:
                raise UserError(f"save_adapter() of several needs a name: {', '.join(gate.added)}")
            name = gate.names[0]
        self.checked_choice(name)
        own = name == OWN
        holder = self.built_now() if own else added.NamedAdapter(self, gate.added[name])
        adapters.save_adapter(holder, Path(directory))

    def load_adapter(self, directory: str | Path, name: str | None = None) -> None:
        """Takes the weights of an adapter in PEFT's format, all or none of them.

        Args:
            directory: of the adapter.
            name: adds it under this name and chooses it, as `add_adapter` does, whatever its
                layers, ranks, scalings and classes. Default: it takes the place of the weights of
                the adapter that the model was made with, and must fit them.

        Raises:
            UserError: the adapter is not for this base, or, without a name, not for these targets,
                ranks or classes; the model is as it was.
        """
        if name is not None:
            self._check_new(name, "load_adapter()")
            self._take(name, added.read_named(self, Path(directory)))
            return
        if self.lora is None and self.gate is not None:
            raise UserError("load_adapter() on a model made without LoRA needs a name for it")
        self._require_lora("load_adapter()")
        self._require_unmerged("load_adapter()")
        adapters.load_adapter(self.built_now(), Path(directory))

    def _check_new(self, name: str, what: str) -> None:
        """Raises UserError unless an adapter of this name can be added; builds the model."""
        self.built_now()
        self._require_unmerged(what)
        added.check_name(name, self.adapters)

    def _take(self, name: str, adapter: Adapter) -> None:
        """Makes an adapter the model's, and chooses it."""
        if self.gate is None:
            self.gate = Gate(own=False)
        if self.gate.own and not self.gate.added:
            self.gate.own_layers = added.own_layers(self)
        self.gate.added[name] = adapter
        self.gate.revision += 1
        self.gate.choose({name: 1.0})
        self.forget_traces()

    def add_again(
        self,
        name: str,
        lora: Mapping[str, Any],
        label_names: list[str],
        kept_fields: Mapping[str, Any],
    ) -> None:
        """Adds an adapter as `keras_state.build_config` described it."""
        self.add_adapter(name, lora, label_names or None)
        assert self.gate is not None
        self.gate.added[name].kept_fields = kept_fields

    def count_parameters(self) -> dict[str, ParameterCount]:
        """Trainable and frozen parameters of the `base`, the `LoRA` weights and the `head`."""
        return parameters.count_parameters(self.built_now())

    def print_trainable(self) -> None:
        """Prints those counts and their totals as a table."""
        parameters.print_counts(self.count_parameters())

    def _require_lora(self, what: str) -> Gate:
        if self.gate is None:
            raise UserError(f'{what} needs a model with LoRA: pass lora={{"rank": 8, "alpha": 16}}')
        return self.gate

    def _require_exact(self, what: str) -> None:
        if self.holds_rounded:
            raise UserError(
                f"{what} on a base held in {self.transformer.variable_dtype}: load the adapter "
                "into a float32 model first"
            )
