"""What is said where a run's figures are no numbers any more."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from gpt2_tuning.data.batch_arrays import Batch
from gpt2_tuning.errors import UserError
from gpt2_tuning.training.checkpoint_files import found_in
from gpt2_tuning.training.progress import Progress


def refuse_batch(batch: Batch, progress: Progress, checkpoints: Path) -> NoReturn:
    """Raises UserError, naming the batch whose loss or gradient is not finite."""
    rows = [] if batch.rows is None else np.sort(batch.rows).tolist()
    whole = found_in(checkpoints)
    raise UserError(
        f"the loss or its gradient is not finite at epoch {progress.epoch + 1}, step "
        f"{progress.step}, in a batch of the train examples "
        f"{', '.join(map(str, rows))} (counted from 0). Start again with a lower "
        "--learning_rate, or without those examples; "
        + (f"{whole[-1]} is from before" if whole else "there is no checkpoint yet")
    )


def refuse_validation(row: Mapping[str, Any]) -> NoReturn:
    """Raises UserError for a row of metrics.csv whose validation loss is not finite."""
    raise UserError(
        f"the validation loss is not finite after epoch {row['epoch']}: start again with a "
        "lower --learning_rate"
    )
