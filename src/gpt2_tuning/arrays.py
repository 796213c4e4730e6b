"""Arrays to and from safetensors files, the one format of weights here: no code runs on reading."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - lets numpy hold the bfloat16 of a file
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from gpt2_tuning.errors import UserError
from gpt2_tuning.files import current_umask
from gpt2_tuning.small_files import check_regular


def save_arrays(
    path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None = None
) -> None:
    """Writes a safetensors file that whoever the umask lets may read, as other files.

    Raises:
        OSError, SafetensorError: it cannot be written, as on a full disk.
    """
    save_file(arrays, path, metadata)
    path.chmod(0o666 & ~current_umask())  # safetensors gives it to the owner alone


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A safetensors file, memory-mapped; its arrays are read one by one.

    Raises:
        UserError: it is not there, may not be read, or is damaged.
    """
    try:
        # safetensors says of a file that may not be read that there is none.
        check_regular(path)
        path.open("rb").close()
        with safe_open(path, framework="numpy") as file:
            yield file
    except PermissionError as error:
        raise UserError(f"{path} may not be read: permission denied (see ls -l)") from error
    except (OSError, SafetensorError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path} is not a readable safetensors file: {reason}") from error


def read_array(path: Path, name: str, rows: slice | None = None) -> np.ndarray:
    """One array of a safetensors file, or some of its rows."""
    with opened(path) as file:
        return file.get_tensor(name) if rows is None else file.get_slice(name)[rows]


def check_finite(array: np.ndarray, where: str, dtype: Any = np.float32) -> None:
    """Raises UserError where a number, rounded to `dtype`, is NaN or infinite.

    Args:
        array: of any type.
        where: names the array in the message, such as "model.safetensors: wte.weight".
        dtype: of the variable that will take the array.
    """
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(array.astype(dtype, copy=False))
    if bad.any():
        first = array.reshape(-1)[bad.argmax()]
        raise UserError(
            f"{where} holds {first} where {np.dtype(dtype)} needs a finite number: "
            "it is damaged, or its training diverged"
        )
