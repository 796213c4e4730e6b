"""TensorFlow's import: without its notices, and without what would make it take twice as long.

The library sets defaults of the environment and no more. The rest, which changes the process, is
for the entry of a script, whose process is its own.
"""

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterator

from gpt2_tuning import nvidia

UNUSED = ("sklearn", "matplotlib", "pandas")
"""What Keras imports, if it is installed, for its wrappers, its pictures and data frames. That
takes a third of the time of TensorFlow's import; nothing here uses those parts of Keras."""

DEFAULTS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "KERAS_BACKEND": "tensorflow",
    "USE_TORCH": "0",
}
"""What the environment says of TensorFlow, Keras and transformers unless the user has spoken."""

XLA_FLAGS = "XLA_FLAGS"
TRITON = "xla_gpu_enable_triton_gemm"


def set_defaults() -> None:
    """Sets what of DEFAULTS is not set; of use before TensorFlow and Keras are imported."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def names_a_file(flags: str) -> bool:
    """Whether a variable of flags holds the name of a file of them, to which nothing can be added.

    XLA and TensorFlow take what does not begin with a dash for one, whole.
    """
    return flags[:1] not in ("", "-")


def without_triton() -> None:
    """Before TensorFlow's import, where there is an NVIDIA GPU: no products written in Triton.

    To compile a step of 124M with them took 61 seconds on an H200, without them 29; a step then
    takes 17.4 ms in place of 16.1. What a user says of that in XLA_FLAGS stands, and so does a file
    of flags that it names.
    """
    given = os.environ.get(XLA_FLAGS, "").strip()
    chosen = TRITON in given or names_a_file(given)
    if "tensorflow" in sys.modules or chosen or nvidia.driver() is None:
        return
    os.environ[XLA_FLAGS] = f"{given} --{TRITON}=false".strip()
    print(
        f"note: {XLA_FLAGS}=--{TRITON}=false is set, which halves the time that compiling takes "
        "and makes steps 8 % slower; =true would undo it",
        file=sys.stderr,
    )


def import_tensorflow() -> None:
    """Imports TensorFlow, and Keras on it; nothing where that was done before."""
    with importing_tensorflow():
        importlib.import_module("tensorflow")
        importlib.import_module("keras")


@contextlib.contextmanager
def importing_tensorflow() -> Iterator[None]:
    """Inside the block TensorFlow and Keras are imported quietly, and in half the time."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(silenced_tensorflow())
        if "tensorflow" not in sys.modules:
            stack.enter_context(hidden(UNUSED))
            stack.enter_context(kept_for_good())
        yield


@contextlib.contextmanager
def kept_for_good() -> Iterator[None]:
    """Inside the block no garbage is collected, and what is there at its end never is.

    TensorFlow's import leaves 300,000 objects. To look through them for garbage again and again
    took a fifth of the import, and a part of everything after it.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


@contextlib.contextmanager
def silenced_tensorflow() -> Iterator[None]:
    """Keeps TensorFlow's start-up notices off the user's screen.

    Its C++ code writes a few lines straight to file descriptor 2 before any log level is read, so
    the descriptor itself is turned away while the block runs. Python exceptions are not affected.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def hidden(names: tuple[str, ...]) -> Iterator[None]:
    """Inside the block these modules are as if they were not installed, if not yet imported."""
    absent = [name for name in names if name not in sys.modules]
    # Python's own mark of a module that cannot be imported: None in place of the module.
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
