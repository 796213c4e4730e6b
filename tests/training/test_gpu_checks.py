"""GPUs that cannot be used: one line says which, what to do, and how to go on with the CPU."""

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from gpt2_tuning import nvidia
from gpt2_tuning.errors import UserError
from gpt2_tuning.nvidia import Card, Driver
from gpt2_tuning.training import gpu_checks
from gpt2_tuning.training.strategy import make_strategy

GB = 10**9
H100 = Card("NVIDIA H100", (9, 0), 80 * GB, 79 * GB)
K80 = Card("Tesla K80", (3, 7), 12 * GB, 11 * GB)
FREE = Card("Tesla T4", (7, 5), 16 * GB, 15 * GB)
UNKNOWN = Card("NVIDIA GB10", None, None, None)
NOT_SUPPORTED = 3
TAKEN = Card("Tesla T4", (7, 5), 16 * GB, GB // 4)


class Nvml:
    """NVIDIA's library as it would answer for these cards."""

    def __init__(self, version, cards):
        self.version, self.cards, self.open = version, cards, False

    def nvmlInit_v2(self):
        self.open = True
        return 0

    def nvmlShutdown(self):
        self.open = False
        return 0

    def nvmlSystemGetCudaDriverVersion_v2(self, version):
        version._obj.value = self.version

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = len(self.cards)

    def nvmlDeviceGetHandleByIndex_v2(self, index, device):
        device._obj.value = index.value + 1

    def nvmlDeviceGetUUID(self, device, identity, size):
        identity.value = f"GPU-{device.value - 1}8932f9".encode()

    def nvmlDeviceGetName(self, device, name, size):
        name.value = self.cards[device.value - 1].name.encode()

    def nvmlDeviceGetMemoryInfo(self, device, memory):
        card = self.cards[device.value - 1]
        if card.total is None:
            return NOT_SUPPORTED
        memory._obj.total, memory._obj.free = card.total, card.free
        return 0

    def nvmlDeviceGetCudaComputeCapability(self, device, major, minor):
        capability = self.cards[device.value - 1].capability
        if capability is None:
            return NOT_SUPPORTED
        major._obj.value, minor._obj.value = capability
        return 0


@pytest.fixture
def cards(monkeypatch):
    """Has the system hold these GPUs, of which TensorFlow sees as many as is said."""

    def hold(*cards, cuda=12040, seen=None, started=False):
        library = Nvml(cuda, cards)
        for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
        monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: True)
        monkeypatch.setattr(gpu_checks, "devices_started", lambda: started)
        monkeypatch.setattr(
            tf.config,
            "get_visible_devices",
            lambda kind: cards[: len(cards) if seen is None else seen],
        )
        return library

    return hold


def test_the_driver_s_answers_are_read_and_it_is_left_as_it_was(cards):
    library = cards(H100, K80, cuda=11040)
    assert nvidia.driver() == Driver((11, 4), [H100, K80], ordered=False)
    assert not library.open


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        ("1", [1]),
        ("2,0", [2, 0]),
        ("0,7,1", [0]),  # CUDA stops reading there
        ("-1", []),
        ("", []),
        ("--1", []),
        (" 1 , 2 ", [1, 2]),
        ("GPU-b", [1]),
        ("GPU-c1,GPU-a", [2, 0]),
        ("GPU-x,GPU-a", []),
        ("MIG-b1", None),
    ],
)
def test_hidden_gpus_are_not_looked_at(variable, found, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert nvidia.visible(["GPU-a1", "GPU-b1", "GPU-c1"]) == found


@pytest.mark.parametrize("strategy", ["auto", "one"])
def test_what_the_driver_does_not_tell_of_a_gpu_is_no_reason(cards, strategy):
    cards(UNKNOWN)
    assert nvidia.driver() == Driver((12, 4), [UNKNOWN])
    make_strategy(strategy)


@pytest.mark.parametrize("bad", [K80, TAKEN])
@pytest.mark.parametrize("name", ["0", "MIG-1", "GPU-08932f9"])
def test_a_gpu_that_may_not_be_the_one_in_use_is_no_reason(cards, monkeypatch, bad, name):
    """CUDA begins to count with the fastest, the driver with the first on the bus."""
    cards(H100 if name.startswith("GPU") else bad, bad, H100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", name)
    make_strategy("auto")


def test_numbers_are_trusted_where_cuda_counts_as_the_driver_does(cards, monkeypatch):
    cards(TAKEN, H100)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    with pytest.raises(UserError, match=r"has 0\.2 of 16\.0 GB free"):
        make_strategy("auto")


def test_an_old_gpu_beside_one_that_will_do_is_left_out_by_tensorflow(cards):
    cards(K80, H100)
    make_strategy("auto")


def test_a_driver_that_lacks_a_function_says_nothing_and_is_left_as_it_was(cards, monkeypatch):
    library = cards(H100)
    monkeypatch.delattr(Nvml, "nvmlSystemGetCudaDriverVersion_v2")
    assert nvidia.driver() is None
    assert not library.open


def test_a_system_without_the_driver_has_no_gpu(monkeypatch):
    monkeypatch.setattr(nvidia, "LIBRARY", "libnone.so.1")
    assert nvidia.driver() is None


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ([K80], "Tesla K80 is too old: its compute capability is 3.7, TensorFlow needs 6.0"),
        ([TAKEN], "Tesla T4 has 0.2 of 16.0 GB free: end what uses it (nvidia-smi lists that), or"),
        (
            [FREE, TAKEN],
            "leave it out (CUDA_VISIBLE_DEVICES=N lets a command have GPU N), or",
        ),
    ],
)
def test_a_gpu_that_would_fail_is_refused_unless_it_is_not_used(cards, held, message, capsys):
    cards(*held)
    with pytest.raises(UserError, match=re.escape(message)) as refused:
        make_strategy("auto")
    assert "CUDA_VISIBLE_DEVICES=-1" in str(refused.value)
    assert "\n" not in str(refused.value)
    if len(held) > 1:
        make_strategy("one")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("card", "cuda", "message"),
    [
        (H100, 11080, "the driver of NVIDIA H100 serves CUDA 11.8, TensorFlow needs 12.0: update"),
        (H100, 12040, "TensorFlow cannot use NVIDIA H100"),
        (K80, 12040, "Tesla K80 is too old"),
    ],
    ids=["driver", "libraries", "age"],
)
def test_a_gpu_that_tensorflow_leaves_out_is_noted_once_and_the_cpu_serves(
    cards, capsys, card, cuda, message
):
    cards(card, cuda=cuda, seen=0)
    assert make_strategy("auto").num_replicas_in_sync == 1
    error = capsys.readouterr().err
    assert error.startswith(f"note: {message}")
    assert error.endswith("Going on with the CPU; CUDA_VISIBLE_DEVICES=-1 says so\n")
    assert error.count("\n") == 1


def test_memory_that_tensorflow_has_taken_itself_is_no_reason(cards):
    cards(TAKEN, started=True)
    make_strategy("auto")


def test_a_gpu_that_cannot_be_started_is_one_line(monkeypatch):
    def fail(kind):
        raise tf.errors.InternalError(None, None, "CUDA_ERROR_ECC_UNCORRECTABLE\nat 0x1")

    monkeypatch.setattr(tf.config, "list_logical_devices", fail)
    with pytest.raises(UserError, match=r"\(CUDA_ERROR_ECC_UNCORRECTABLE\).*DEVICES=-1"):
        make_strategy("auto")


def test_whether_devices_are_started_is_known_and_changes_nothing():
    code = (
        "import tensorflow as tf\n"
        "from gpt2_tuning.training.gpu_checks import devices_started\n"
        "found = [devices_started(), tf.config.threading.get_inter_op_parallelism_threads()]\n"
        "tf.constant(1)\n"
        "print([*found, devices_started()])\n"
    )
    src = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=src
    )
    assert done.stdout == "[False, 0, True]\n"
