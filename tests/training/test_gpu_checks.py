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
H100 = Card("NVIDIA H100", (9, 0), 80 * GB, 79 * GB, "GPU-8932f937-d72c-4106")
K80 = Card("Tesla K80", (3, 7), 12 * GB, 11 * GB, "GPU-0c11a2b3-d72c-4106")
TAKEN = Card("Tesla T4", (7, 5), 16 * GB, GB // 4, "GPU-f00dcafe-0000-0000")
T4 = TAKEN._replace(free=15 * GB, uuid="GPU-11111111-0000-0000")
ALIKE = [H100._replace(uuid=f"GPU-8932f93{index}") for index in range(3)]


class Nvml:
    """NVIDIA's library as it would answer for these cards."""

    def __init__(self, version, cards, failing=()):
        self.version, self.cards, self.open = version, cards, False
        for name in failing:
            setattr(self, name, lambda *arguments: 3)  # NVML_ERROR_NOT_SUPPORTED

    def nvmlInit_v2(self):
        self.open = True
        return 0

    def nvmlShutdown(self):
        self.open = False
        return 0

    def nvmlSystemGetCudaDriverVersion_v2(self, version):
        version._obj.value = self.version

    def nvmlSystemGetDriverVersion(self, build, size):
        build.value = b"550.54.15"

    def nvmlDeviceGetCount_v2(self, count):
        count._obj.value = len(self.cards)

    def nvmlDeviceGetHandleByIndex_v2(self, index, device):
        device._obj.value = index.value + 1

    def nvmlDeviceGetName(self, device, name, size):
        name.value = self.cards[device.value - 1].name.encode()

    def nvmlDeviceGetUUID(self, device, uuid, size):
        uuid.value = self.cards[device.value - 1].uuid.encode()

    def nvmlDeviceGetMemoryInfo(self, device, memory):
        card = self.cards[device.value - 1]
        memory._obj.total, memory._obj.free = card.total, card.free

    def nvmlDeviceGetCudaComputeCapability(self, device, major, minor):
        major._obj.value, minor._obj.value = self.cards[device.value - 1].capability


@pytest.fixture
def cards(monkeypatch):
    """Has the system hold these GPUs, of which TensorFlow sees those that are said."""

    def hold(*cards, cuda=12040, seen=None, started=False, failing=()):
        library = Nvml(cuda, cards, failing)
        for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
        monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: True)
        monkeypatch.setattr(gpu_checks, "devices_started", lambda: started)
        devices = cards if seen is None else seen
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: devices)
        monkeypatch.setattr(
            tf.config.experimental, "get_device_details", lambda card: {"device_name": card.name}
        )
        return library

    return hold


def test_the_driver_s_answers_are_read_and_it_is_left_as_it_was(cards):
    library = cards(H100, K80, cuda=11040)
    assert nvidia.driver() == Driver((11, 4), [H100, K80], "550.54.15")
    assert not library.open


@pytest.mark.parametrize(
    ("variable", "found"),
    [
        (None, [0, 1, 2]),
        ("1", [1]),
        ("2, 0", [2, 0]),
        ("0,7,1", [0]),  # CUDA stops reading there
        ("-1", []),
        ("", []),
        ("GPU-8932f932", [2]),
        ("GPU-8932F931,GPU-8932f930,GPU-nobody,2", [1, 0]),
        ("GPU-8932f93", []),  # which it may be of three
    ],
)
def test_hidden_gpus_are_not_looked_at(variable, found, monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if variable is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert nvidia.visible(ALIKE) == [ALIKE[index] for index in found]


def test_a_number_says_which_gpu_it_is_where_they_are_alike_or_numbered_by_the_bus(monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert nvidia.visible([K80, H100]) == [K80, H100]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert nvidia.visible([K80, H100]) == [H100]


@pytest.mark.parametrize("variable", ["MIG-GPU-8932f937/1/0", "0,MIG-8932f937", "NoDevFiles"])
def test_of_a_part_of_a_gpu_nothing_is_checked(variable, cards, monkeypatch, capsys):
    cards(TAKEN, K80)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    unknown = [Card(card.name, None, None, None) for card in (TAKEN, K80)]
    assert nvidia.driver() == Driver((12, 4), unknown, "550.54.15")
    make_strategy("auto")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "failing",
    [
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetCudaComputeCapability",
        "nvmlDeviceGetHandleByIndex_v2",
        "nvmlDeviceGetName",
        "nvmlDeviceGetUUID",
        "nvmlSystemGetCudaDriverVersion_v2",
        "nvmlSystemGetDriverVersion",
        "nvmlDeviceGetCount_v2",
        "nvmlInit_v2",
    ],
)
def test_what_the_driver_does_not_say_is_no_reason(failing, cards, capsys):
    cards(H100, failing=[failing])
    make_strategy("auto")
    assert capsys.readouterr().err == ""
    cards(H100, failing=[failing], seen=[])
    make_strategy("auto")
    error = capsys.readouterr().err
    assert not error or error.startswith("note: TensorFlow cannot use ")


def test_memory_that_is_the_processor_s_too_is_not_checked(cards):
    cards(Card("NVIDIA GB10", (12, 1), 0, 0))
    unknown = Card("NVIDIA GB10", (12, 1), None, None)
    assert nvidia.driver() == Driver((12, 4), [unknown], "550.54.15")
    make_strategy("auto")


@pytest.mark.parametrize("lacking", ["nvmlSystemGetCudaDriverVersion_v2", "nvmlInit_v2"])
def test_a_driver_that_lacks_a_function_says_nothing_and_is_left_as_it_was(
    lacking, cards, monkeypatch
):
    library = cards(H100)
    monkeypatch.delattr(Nvml, lacking)
    assert nvidia.driver() is None
    assert not library.open


def test_a_system_without_the_driver_has_no_gpu(monkeypatch):
    monkeypatch.setattr(nvidia, "LIBRARY", "libnone.so.1")
    assert nvidia.driver() is None


FULL = "Tesla T4 has 0.2 of 16.0 GB free: end what uses it (nvidia-smi lists that), "
LEAVE_OUT = "leave it out (CUDA_VISIBLE_DEVICES=GPU-8932f937 before the command), "
ON_THE_CPU = "or go on with the CPU: CUDA_VISIBLE_DEVICES=-1 before the command"


@pytest.mark.parametrize(
    ("held", "name", "message"),
    [
        ([TAKEN], "auto", FULL + ON_THE_CPU),
        ([H100, TAKEN], "auto", FULL + LEAVE_OUT + "use one GPU (--strategy one), " + ON_THE_CPU),
        ([TAKEN, H100], "auto", FULL + LEAVE_OUT + ON_THE_CPU),
        ([TAKEN, H100], "one", FULL + LEAVE_OUT + ON_THE_CPU),
        ([TAKEN, T4], "one", FULL + LEAVE_OUT.replace("8932f937", "11111111") + ON_THE_CPU),
        ([H100._replace(uuid=""), TAKEN], "mirrored", FULL + "leave it out (CUDA_VISIBLE_DEVICES="),
    ],
)
def test_a_gpu_that_is_used_and_full_is_refused_with_the_ways_out(cards, held, name, message):
    cards(*held)
    with pytest.raises(UserError, match=f"^{re.escape(message)}") as refused:
        make_strategy(name)
    assert "\n" not in str(refused.value)


def test_a_gpu_that_is_full_beside_the_one_that_is_used_is_noted(cards, capsys):
    cards(H100, TAKEN)
    make_strategy("one")
    assert capsys.readouterr().err == (
        "note: Tesla T4 has 0.2 of 16.0 GB free. Going on without it; "
        "CUDA_VISIBLE_DEVICES=GPU-8932f937 says so\n"
    )


def test_a_gpu_that_tensorflow_leaves_out_as_too_old_is_noted_and_ends_nothing(
    cards, capsys, monkeypatch
):
    cards(K80, H100, seen=[H100])
    for name in ("auto", "one"):
        make_strategy(name)
        assert capsys.readouterr().err == (
            "note: Tesla K80 is too old: its compute capability is 3.7, TensorFlow needs 6.0. "
            "Going on without it; CUDA_VISIBLE_DEVICES=GPU-8932f937 says so\n"
        )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # CUDA's first, the fastest
    make_strategy("auto")
    assert capsys.readouterr().err == ""


def test_a_gpu_that_tensorflow_does_not_use_may_be_full(cards, capsys):
    cards(TAKEN, H100, seen=[H100])
    make_strategy("auto")
    assert capsys.readouterr().err == ""


def test_a_gpu_is_not_refused_while_it_may_be_another(cards, monkeypatch):
    cards(TAKEN, T4, H100, seen=[T4])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    make_strategy("auto")
    cards(TAKEN, TAKEN, H100, seen=[TAKEN])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(UserError, match="Tesla T4 has"):
        make_strategy("auto")


@pytest.mark.parametrize(
    ("card", "cuda", "message"),
    [
        (H100, 11080, "the driver of NVIDIA H100 serves CUDA 11.8, TensorFlow needs 12.0: update"),
        (H100, 12040, "TensorFlow cannot use NVIDIA H100"),
        (K80, 12040, "Tesla K80 is too old: its compute capability is 3.7, TensorFlow needs 6.0"),
    ],
    ids=["driver", "libraries", "age"],
)
def test_a_gpu_that_tensorflow_leaves_out_is_noted_once_and_the_cpu_serves(
    cards, capsys, card, cuda, message
):
    cards(card, cuda=cuda, seen=[])
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
