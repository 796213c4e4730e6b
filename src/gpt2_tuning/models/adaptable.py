"""Several adapters on one model: added, chosen, written and read by name."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from gpt2_tuning.checks import shown
from gpt2_tuning.config import EXAMPLE, LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats import adapters
from gpt2_tuning.formats.classifier_head import checked_names
from gpt2_tuning.models import added, unchosen
from gpt2_tuning.models.gate import OWN, Adapter, Choice, Gate, shares_of
from gpt2_tuning.models.pretrained import PretrainedModel


class AdaptableModel(PretrainedModel):
    """A model whose adapters have names: that which it was made with, and those added to it."""

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
        anew: it goes on without the adapter. A model that was trained must be compiled again.

        Args:
            name: how it is called from now on.
            lora: a LoRAConfig or a dict of its fields.
            label_names: the classes of a classifier's own head, which begins at random. Default:
                the model's.

        Raises:
            UserError: the name is taken, the base has no such layers, the classes are not two or
                more, or the model is merged.
        """
        self._check_new(name, "add_adapter()")
        given = LoRAConfig.of(lora)
        if given is None:
            raise UserError(f"add_adapter() needs a LoRAConfig, or a dict such as {EXAMPLE}")
        if label_names is not None and not self.head_weights():
            raise UserError("label_names are for a classifier's adapter")
        given_names = self.label_names if label_names is None else label_names
        names = checked_names(given_names) if self.head_weights() else None
        self._take(name, added.new_adapter(self, given.within(self.family), names))

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
        self._check_there(name)
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

    def rows_gate(self, adapters: Sequence[Choice]) -> np.ndarray:
        """The gate of rows that have adapters of their own; `inputs` may have it as `gate`.

        Args:
            adapters: for each row a name, names and their shares, or None for the base.

        Returns:
            float32 [B], or [B, n] in the order of `adapters` where some were added.

        Raises:
            UserError: there is no such adapter, or it is no list.
        """
        self._require_no_own_weights("rows_gate()")
        if isinstance(adapters, str | Mapping) or not isinstance(adapters, Collection):
            raise UserError("adapters is not a list: give an adapter, or None, for each row")
        rows = [self.checked_choice(choice) for choice in adapters]
        names = self.gate.names if self.gate else []
        columns = [[row.get(name, 0.0) for row in rows] for name in names]
        shares = np.array(columns, np.float32).reshape(-1, len(rows)).T
        return shares if self.gate and self.gate.added else shares.sum(axis=1)

    def rows_gate_spec(self, rows: int | None = None) -> tf.TensorSpec:
        """What `rows_gate` gives for so many rows, or for any number."""
        adapters = [len(self.gate.names)] if self.gate and self.gate.added else []
        return tf.TensorSpec([rows, *adapters], tf.float32)

    def checked_choice(self, choice: Choice) -> dict[str, float]:
        """The share of each adapter that is chosen.

        Raises:
            UserError: there is no such adapter, or a share is no finite number.
        """
        shares = shares_of(choice, self.gate.names if self.gate else [])
        if OWN in shares and shares != {OWN: 1.0}:
            self._require_no_own_weights("a mixture or a share")
        return shares

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
        self._check_there(name)
        own = name == OWN
        holder = self.built_now() if own else added.NamedAdapter(self, gate.added[name])
        with gate.own_values():
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
        gate = self._require_lora("load_adapter()")
        self._require_unmerged("load_adapter()")
        self.built_now()
        with gate.own_values():
            adapters.load_adapter(self, Path(directory))

    def _check_there(self, name: Any) -> None:
        """Raises UserError where it is no adapter's name."""
        if not isinstance(name, str):
            raise UserError(f"{shown(name)} is not the name of an adapter")
        shares_of(name, self.adapters)

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
        optimizer = getattr(self, "optimizer", None)
        if optimizer is not None and optimizer.built:
            self.gate.stale_optimizer = optimizer
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

    def train_step(self, data):
        """As Keras's; adapters that take no part in a step keep every bit."""
        if self.gate is None or not self.gate.added:
            return super().train_step(data)
        put_back = unchosen.kept(self, data)
        logs = super().train_step(data)
        put_back()
        return logs

    def make_train_function(self, force=False):
        """As Keras does for `fit`; refuses a merged model, whose updates would not be trained."""
        self._require_unmerged("training")
        if self.gate and self.gate.own_weights and self.gate.own_weights.aside:
            raise UserError(
                "training now would change the base: the adapter that tunes weights of it is "
                'switched off, so set_adapter("default") first'
            )
        stale = self.gate.stale_optimizer if self.gate else None
        if stale is not None and stale is self.optimizer:
            raise UserError(
                "an adapter was added since training: compile the model again, with a new optimizer"
            )
        return super().make_train_function(force)

    def _require_lora(self, what: str) -> Gate:
        if self.gate is None:
            raise UserError(f"{what} needs a model with LoRA: pass lora={EXAMPLE}")
        return self.gate
