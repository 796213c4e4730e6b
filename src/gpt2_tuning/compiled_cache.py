"""What XLA compiles is kept on disk, so that the next process need not compile it again.

TensorFlow's own persistent cache does that, for the scripts alone. It believes what it reads, which
is code: so the directory is the user's alone, and each entry has a sum of ours, without which, or
with another, it is removed before TensorFlow sees it.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gpt2_tuning import nvidia, processor
from gpt2_tuning.files import sha256_of, write_text
from gpt2_tuning.startup import names_a_file

FLAGS = "TF_XLA_FLAGS"
FLAG = "tf_xla_persistent_cache_directory"
OFF = f"{FLAGS}=--{FLAG}="
"""In the environment of a command, this does without the cache."""
NAME = "xla_compile_cache"
ENTRIES = f"{NAME}__*.pb"
SUM = ".sha256"
PLACE = "gpt2-tuning/compiled"
"""The directory of all entries, in the user's directory of caches."""
LEFTOVERS = (f"{NAME}__*.tmp", f".{NAME}__*.partial")
"""What was being written, an entry or its sum."""
LEFTOVER_SECONDS = 3600
"""Age from which that is what a killed process left: to write it takes moments."""
BOUND = 512 * 2**20
"""Bytes of all entries, of all versions and devices; the oldest go first."""
LEAST_FREE = 2**30
"""Bytes that must be free on the disk: TensorFlow ends a run whose entry cannot be written."""


@contextlib.contextmanager
def used() -> Iterator[None]:
    """Inside the block TensorFlow, not imported before, finds what was compiled, and keeps more.

    Where the directory cannot be used a note says why, and there is no cache. A user's own choice
    in TF_XLA_FLAGS stands, and so does a file of flags that it names.

    Raises:
        OSError: in place of TensorFlow's error, which an entry that cannot be written or read is.
    """
    given = os.environ.get(FLAGS, "").strip()
    owners = hasattr(os, "geteuid")  # Windows does not tell whose a file is
    chosen = FLAG in given or names_a_file(given)
    if "tensorflow" in sys.modules or chosen or not owners:
        with reported():
            yield
        return
    try:
        directory = prepared(key(given))
    # The others: no home, and a TensorFlow that was not installed as a package of that name.
    except (OSError, RuntimeError, ImportError) as error:
        print(f"note: compiled steps are not kept: {error}", file=sys.stderr)
        yield
        return
    os.environ[FLAGS] = f"{flag_of(directory)} {given}".strip()
    try:
        with reported():
            yield
    finally:
        with contextlib.suppress(OSError):  # entries without a sum are made again
            seal(directory)


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Turns TensorFlow's error of an entry that cannot be written, or read, into a line.

    Raises:
        OSError: in place of TensorFlow's error.
    """
    try:
        yield
    except Exception as error:
        if not is_of_cache(error):
            raise
        line = next(line for line in str(error).splitlines() if names_cache(line))
        raise OSError(
            f"cannot keep what was compiled ({line.partition(' [Op:')[0]}): {OFF} before the "
            "command does without"
        ) from error


def is_of_cache(error: Exception) -> bool:
    """Whether it is TensorFlow's, of an entry or of the directory."""
    if not names_cache(str(error)):
        return False
    import tensorflow as tf

    return isinstance(error, tf.errors.OpError)


def names_cache(text: str) -> bool:
    """Whether a text names an entry or the directory."""
    return NAME in text or PLACE in text


def flag_of(directory: Path) -> str:
    """The flag that names a directory, which may hold blanks and quotes, as TensorFlow reads it."""
    quoted = re.sub(r'(["\\])', r"\\\1", str(directory))
    return f'--{FLAG}="{quoted}"'


def top() -> Path:
    """The directory of all entries."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches).absolute() / PLACE


def key(flags: str) -> str:
    """The name of the directory for this TensorFlow, these devices and these flags of XLA."""
    version = importlib.metadata.version("tensorflow")
    driver = nvidia.driver()
    gpu = [driver.build, str(driver.cuda), *cuda_packages()] if driver else []
    cards = [f"{card.name} {card.capability}" for card in driver.cards] if driver else []
    parts = [
        *(version, platform.machine(), processor.field("model name"), processor.field("flags")),
        *(*gpu, *cards),
        *(os.environ.get("XLA_FLAGS", ""), flags),
    ]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"{version}-{digest[:16]}"


def cuda_packages() -> list[str]:
    """CUDA's packages that TensorFlow's own asks for, such as cuDNN and ptxas, with the versions.

    Libraries that were not installed as packages are not known.
    """
    asked = importlib.metadata.requires("tensorflow") or []
    found = []
    for name in sorted({re.split(r"[^\w.-]", text)[0] for text in asked}):
        if name.startswith("nvidia-"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found.append(f"{name} {importlib.metadata.version(name)}")
    return found


def prepared(name: str) -> Path:
    """The directory for these entries, the user's own, with no entry in it that is not as it was.

    Raises:
        OSError: it cannot be made, is not the user's alone, or the disk is nearly full.
    """
    directory = top() / name
    own = directory.parent.parent
    own.parent.mkdir(parents=True, exist_ok=True)
    for place in (own, directory.parent, directory):
        place.mkdir(mode=0o700, exist_ok=True)
    check_owned(directory)
    if shutil.disk_usage(directory).free < LEAST_FREE:
        raise OSError(f"the disk of {directory} is nearly full")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise OSError(f"cannot write to {directory}")
    for entry in directory.glob(ENTRIES):
        odd = entry.is_dir() and not entry.is_symlink()  # not TensorFlow's, nor ours to remove
        if not odd and not is_whole(entry):
            remove(entry)
    remove_leftovers()
    return directory


def check_owned(directory: Path) -> None:
    """Raises OSError unless the user alone can put something into a directory, or rename it."""
    for place, forbidden in (
        (directory, 0o077),
        (directory.parent, 0o077),
        (directory.parent.parent, 0o022),
    ):
        found = place.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(f"{place} is a link")
        if found.st_uid != os.geteuid():
            raise OSError(f"{place} is another user's")
        if found.st_mode & forbidden:
            raise OSError(f"{place} is open to other users: chmod go-rwx {place}")


def is_whole(entry: Path) -> bool:
    """Whether an entry is a file that has the sum noted beside it."""
    try:
        noted = sum_file(entry).read_text(encoding="utf-8")
        return is_file(entry) and noted == sha256_of(entry)
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether it is a file, and not a link to one."""
    return path.is_file() and not path.is_symlink()


def sum_file(entry: Path) -> Path:
    """Where an entry's sum is noted."""
    return entry.with_name(entry.name + SUM)


def seal(directory: Path) -> None:
    """Notes the sums of what TensorFlow has added, and removes the oldest entries above BOUND.

    Another process may remove any of them meanwhile.

    Raises:
        OSError: the directory is not the user's alone, as one that TensorFlow has made again.
    """
    check_owned(directory)
    for entry in directory.glob(ENTRIES):
        if is_file(entry) and not sum_file(entry).exists():
            with contextlib.suppress(OSError):
                write_text(sum_file(entry), sha256_of(entry))
    found = []
    for entry in filter(is_file, directory.parent.glob(f"*/{ENTRIES}")):
        with contextlib.suppress(OSError):
            found.append((entry.stat(), entry))
    total = 0
    for about, entry in sorted(found, key=lambda one: one[0].st_mtime, reverse=True):
        total += about.st_size
        if total > BOUND:
            remove(entry)


def remove_leftovers() -> None:
    """Removes what processes that were killed, or had no room, were writing."""
    for leftover in (found for names in LEFTOVERS for found in top().glob(f"*/{names}")):
        with contextlib.suppress(OSError):
            if time.time() - leftover.lstat().st_mtime > LEFTOVER_SECONDS:
                leftover.unlink()


def remove(entry: Path) -> None:
    """Removes an entry and its sum; another process may have done so."""
    entry.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # without the entry it is believed by nobody
        sum_file(entry).unlink()
