"""Which devices take part, in this process and in others.

A strategy must exist before TensorFlow does anything else: both the number of logical devices and
the connections between processes are fixed when it starts its devices.
"""

import contextlib
import functools
import signal
import zlib
from collections.abc import Callable, Iterator

import tensorflow as tf

from gpt2_tuning.cluster import Cluster
from gpt2_tuning.errors import UserError
from gpt2_tuning.interrupts import handling
from gpt2_tuning.training.gpu_checks import check_gpus, started_gpus


def make_strategy(name: str, logical_devices: int | None = None) -> tf.distribute.Strategy:
    """A strategy by its flag.

    Args:
        name: `one`; `mirrored` (every visible GPU, or every logical CPU device where there is no
            GPU); `multi_worker` (the processes that TF_CONFIG names); or `auto`: mirrored where a
            GPU is visible, else one.
        logical_devices: as how many devices the CPU appears, GPUs being left alone; None leaves
            everything as it is.

    Raises:
        UserError: there is no such strategy, TensorFlow cannot make it (any more), or a GPU cannot
            be used.
    """
    if logical_devices is None:
        check_gpus(one=name == "one")
    else:
        split_cpu(logical_devices)
    if name == "multi_worker":
        return multi_worker()
    gpus = started_gpus()
    if name == "one" or (name == "auto" and not gpus):
        return tf.distribute.get_strategy()
    if name in ("auto", "mirrored"):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return mirrored(tuple(device.name for device in devices))
    raise UserError(f"unknown strategy {name!r}: choose auto, one, mirrored or multi_worker")


def split_cpu(count: int) -> None:
    """Makes the CPU appear as `count` devices, and hides the GPUs.

    Raises:
        UserError: TensorFlow has started its devices already, with another number.
    """
    if count < 1:
        raise UserError(f"--logical_devices must be at least 1, not {count}")
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) != count or uses_gpu():
            raise UserError(
                f"--logical_devices {count} comes too late: TensorFlow is in use in this process "
                "already, so its devices can no longer be divided"
            ) from error


@functools.cache
def mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """The one MirroredStrategy over these devices.

    A second one would number its collective operations from the start again, and TensorFlow takes
    those for the first one's.
    """
    return tf.distribute.MirroredStrategy(devices)


@functools.cache
def multi_worker() -> tf.distribute.Strategy:
    """The one MultiWorkerMirroredStrategy of this process: waits for the others to come up.

    Raises:
        UserError: TF_CONFIG is wrong, this process cannot listen at its address, or TensorFlow is
            in use already.
    """
    cluster = Cluster.from_environment()
    try:
        # A signal ends the process at once, which has begun nothing: Python would not hear of it
        # before all workers are there. TensorFlow then takes SIGTERM for itself, as news of a
        # preemption; the block's end undoes that.
        with handling(signal.SIG_DFL, signal.SIGINT, signal.SIGTERM):
            return tf.distribute.MultiWorkerMirroredStrategy()
    except (RuntimeError, tf.errors.OpError) as error:
        address = cluster.addresses[cluster.index]
        raise UserError(f"worker {cluster.index} cannot start at {address}: {error}") from error


@contextlib.contextmanager
def lost_workers_reported() -> Iterator[None]:
    """Turns what TensorFlow raises when another worker is gone into a line; also a decorator.

    Raises:
        UserError: in place of TensorFlow's error.
    """
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
        raise UserError(
            "another worker is gone: start all of them again with --resume, which continues from "
            "the newest checkpoint"
        ) from error


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns once every worker is here: TensorFlow takes one that leaves early for lost."""
    said_by_all(strategy, 0)


def check_agreement(strategy: tf.distribute.Strategy, text: str) -> None:
    """Waits until every worker is here, and checks that all have the same to say.

    Workers that were started with different flags, data or checkpoints would otherwise compute
    nonsense together, or wait for each other for ever.

    Raises:
        UserError: some worker has another text.
    """
    if len(set(said_by_all(strategy, zlib.crc32(text.encode()) >> 8))) > 1:
        raise UserError("the workers differ in their flags, their data or their checkpoints")


def said_by_all(strategy: tf.distribute.Strategy, own: int) -> list[int]:
    """What the workers say, once for each of their replicas; waits until every worker is here.

    Args:
        strategy: the devices. But for those of several processes there is only this one to ask.
        own: what this process says: below 2**24, which float32 holds exactly.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return [own]
    return spreading(strategy)(tf.constant(own, tf.float32)).numpy().astype(int).tolist()


@functools.cache
def spreading(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """The function behind `said_by_all`, which is traced once: workers ask after every step."""

    def of_replica(own: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        mine = tf.one_hot(context.replica_id_in_sync_group, replicas, on_value=own)
        return context.all_reduce("SUM", mine)

    @tf.function(autograph=False)
    def spread(own: tf.Tensor) -> tf.Tensor:
        return strategy.experimental_local_results(strategy.run(of_replica, args=(own,)))[0]

    return spread


def uses_gpu() -> bool:
    """Whether a GPU is visible; compiling whole steps pays there and costs on a CPU."""
    return bool(tf.config.list_logical_devices("GPU"))
