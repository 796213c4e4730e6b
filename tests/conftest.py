"""TensorFlow is quiet, tests are repeatable, and real data is found or the test says why not."""

import dataclasses
import os
import signal

os.environ["HF_HUB_OFFLINE"] = "1"
# The scripts that tests start find nothing compiled by others, and leave the user's cache alone.
os.environ["TF_XLA_FLAGS"] = "--tf_xla_persistent_cache_directory="

import pytest

from gpt2_tuning.startup import silenced_tensorflow

# In the scripts' environment: without it TensorFlow leaves oneDNN out on some processors, which
# rounds otherwise, and a run begun by a script would not be resumed to the same bits.
with silenced_tensorflow():
    import tensorflow as tf

# Two logical devices, so that what several replicas do can be tested anywhere.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

from places import SHARED

from gpt2_tuning.families.gpt2 import GPT2Config

LONGEST = ("test_launch.py", "test_chaos.py", "test_notebooks.py", "test_certify.py")
"""Files of few and long tests: begun last, one of them would run alone on one processor."""


def pytest_collection_modifyitems(items):
    """The longest files come first."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def beside(name):
    """A directory of files beside the repository, which not everybody has."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"no files in {SHARED / name}")
    return SHARED / name


@pytest.fixture
def real_data():
    """The directory of real data sets beside the repository."""
    return beside("data")


@pytest.fixture
def cases():
    """Small files of the kinds that people bring, beside the repository."""
    return beside("cases")


@pytest.fixture(scope="session")
def transformers():
    """transformers with its TF classes, which version 5 has not."""
    found = pytest.importorskip("transformers")
    try:
        found.TFGPT2Model  # noqa: B018  # imported at this moment
    except (ImportError, AttributeError, RuntimeError, ValueError) as error:
        pytest.skip(f"transformers {found.__version__} has no TF classes here: {error}")
    return found


@pytest.fixture(scope="session")
def datasets():
    """datasets, which reads the Hub."""
    return pytest.importorskip("datasets")


@pytest.fixture
def small_config():
    """A GPT-2 small enough for a test, with dropout off and weights large enough to matter."""
    return GPT2Config(
        n_layer=2,
        n_embd=32,
        n_head=4,
        n_positions=64,
        vocab_size=97,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        initializer_range=0.2,
    )


@pytest.fixture
def text_config(small_config):
    """The same with GPT-2's vocabulary, for batches that hold real padding; narrow, to be quick."""
    return dataclasses.replace(small_config, n_embd=16, n_head=2, vocab_size=50257)


@pytest.fixture
def all_bits():
    """For a test that compares in float32, which a GPU would round to TensorFloat-32."""
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    yield
    tf.config.experimental.enable_tensor_float_32_execution(enabled)


@pytest.fixture
def cpu_alone():
    """For a test that is about a machine without a GPU."""
    if gpus := tf.config.get_visible_devices("GPU"):
        pytest.skip(f"needs a machine without a GPU, or CUDA_VISIBLE_DEVICES=-1: {len(gpus)} seen")


@pytest.fixture
def plain_handlers():
    """Python's own handlers of signals, whatever the tests were started with."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)
