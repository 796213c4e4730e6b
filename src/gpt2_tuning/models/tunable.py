"""LoRA on models with and without a head: what is tuned, switched off and merged."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from gpt2_tuning.errors import UserError
from gpt2_tuning.formats import adapters
from gpt2_tuning.models import merging, parameters, parts
from gpt2_tuning.models.adaptable import AdaptableModel
from gpt2_tuning.models.parameters import ParameterCount


class TunableModel(AdaptableModel):
    """A Keras model around a decoder: it compiles, fits and predicts as any other."""

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

    def count_parameters(self) -> dict[str, ParameterCount]:
        """Trainable and frozen parameters of the `base`, the `LoRA` weights and the `head`."""
        return parameters.count_parameters(self.built_now())

    def print_trainable(self) -> None:
        """Prints those counts and their totals as a table."""
        parameters.print_counts(self.count_parameters())

    def fit(self, x=None, y=None, *args, class_weight=None, **kwargs):
        """As Keras's.

        Raises:
            UserError: `class_weight` comes with a dataset that weighs its labels itself, as those
                of language models and of packed rows do.
        """
        spec = getattr(x, "element_spec", None)
        if class_weight is not None and isinstance(spec, tuple) and len(spec) == 3:
            raise UserError(
                "class_weight weighs classes, and this dataset has a weight for each label already:"
                " leave class_weight out, or take a classifier's dataset that is not packed"
            )
        return super().fit(x, y, *args, class_weight=class_weight, **kwargs)

    def _require_exact(self, what: str) -> None:
        if self.holds_rounded:
            raise UserError(
                f"{what} on a base held in {self.transformer.variable_dtype}: load the adapter "
                "into a float32 model first"
            )
