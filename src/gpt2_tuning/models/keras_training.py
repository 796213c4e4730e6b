"""What `compile` and `fit` of our models do that Keras's do not."""

from gpt2_tuning.errors import UserError
from gpt2_tuning.models import unchosen
from gpt2_tuning.models.pretrained import PretrainedModel


class KerasTraining(PretrainedModel):
    """A model whose adapters, merging and weights of labels `fit` respects."""

    def compile(self, *args, **kwargs) -> None:
        """As Keras's."""
        super().compile(*args, **kwargs)
        self._compiled_revision = self.gate.revision if self.gate else 0

    def train_step(self, data):
        """As Keras's; adapters that take no part in a step keep every bit."""
        if self.gate is None or not self.gate.added:
            return super().train_step(data)
        put_back = unchosen.kept(self, data)
        logs = super().train_step(data)
        put_back()
        return logs

    def fit(self, x=None, *args, class_weight=None, **kwargs):
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
        return super().fit(x, *args, class_weight=class_weight, **kwargs)

    def make_train_function(self, force=False):
        """As Keras does for `fit`; refuses a merged model, whose updates would not be trained."""
        self._require_unmerged("training")
        revision = self.gate.revision if self.gate else 0
        if revision > getattr(self, "_compiled_revision", revision):
            raise UserError("adapters came or went since compile(): compile the model again")
        return super().make_train_function(force)
