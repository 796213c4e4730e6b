"""certify_run with the usual mistake, which the certificate must find."""

import sys

import tensorflow as tf

from gpt2_tuning.commands import certify_run
from gpt2_tuning.training import steps


class LocalMeans(steps.StepFunctions):
    """Means of each part are averaged, however much each part has to say."""

    def _part(self, batch, total_weight):
        parts = self.strategy.num_replicas_in_sync * self.accumulation
        return super()._part(batch, parts * tf.maximum(tf.reduce_sum(batch[2]), 1.0))


if __name__ == "__main__":
    steps.StepFunctions = LocalMeans  # type: ignore[misc]
    sys.exit(certify_run.main())
