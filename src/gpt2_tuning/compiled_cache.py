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
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from gpt2_tuning import nvidia, processor
from gpt2_tuning.files import sha256_of, write_text

FLAGS = "TF_XLA_FLAGS"
FLAG = "tf_xla_persistent_cache_directory"
OFF = f"{FLAGS}=--{FLAG}="
"""In the environment of a command, this does without the cache."""
NAME = "xla_compile_cache"
ENTRIES = f"{NAME}__*.pb"
UNFINISHED = f"{NAME}__*.tmp"
"""What TensorFlow writes before it gives it the name of an entry."""
ABANDONED = 3600.0
"""Seconds after which whoever wrote it is known to be gone."""
SUM = ".sha256"
BOUND = 512 * 2**20
"""Bytes of all entries, of all versions and devices; the oldest go first."""
LEAST_FREE = 2**30
"""Bytes that must be free on the disk: TensorFlow ends a run whose entry cannot be written."""


@contextlib.contextmanager
def used() -> Iterator[None]:
    """Inside the block TensorFlow, not imported before, finds what was compiled, and keeps more.

    Where the directory cannot be used a note says why, and there is no cache. A user's own choice
    in TF_XLA_FLAGS stands, as does the name of a file of flags, to which nothing can be added.

    Raises:
        OSError: TensorFlow could not write an entry, for which it ends what it computes.
    """
    given = os.environ.get(FLAGS, "").strip()
    owners = hasattr(os, "geteuid")  # Windows does not tell whose a file is
    theirs = FLAG in given or (given and not given.startswith("-"))
    if "tensorflow" in sys.modules or theirs or not owners:
        yield
        return
    try:
        directory = prepared(key(given))
        flag = f"--{FLAG}={quoted(directory)}"
    # The others: no home, and a TensorFlow that was not installed as a package of that name.
    except (OSError, RuntimeError, ImportError) as error:
        print(f"note: compiled steps are not kept: {error}", file=sys.stderr)
        yield
        return
    os.environ[FLAGS] = f"{given} {flag}".strip()
    try:
        yield
    except Exception as error:
        if str(directory) in str(error):  # TensorFlow's, of many kinds
            raise OSError(not_kept(str(error))) from error
        raise
    finally:
        with contextlib.suppress(OSError):  # entries without a sum are made again
            seal(directory)


def quoted(directory: Path) -> str:
    """The directory as TF_XLA_FLAGS, which is cut at blanks, can hold it.

    Raises:
        OSError: its name has both kinds of quotes.
    """
    for quote in ("'", '"'):
        if not {quote, "\\"} & set(str(directory)):
            return f"{quote}{directory}{quote}"
    raise OSError(f"TensorFlow cannot be told the name {directory}")


def top() -> Path:
    """The directory of all entries: gpt2-tuning/compiled in the user's directory of caches."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches).absolute() / "gpt2-tuning" / "compiled"


def key(flags: str) -> str:
    """The name of the directory for this TensorFlow, these devices and these flags of XLA."""
    version = importlib.metadata.version("tensorflow")
    driver = nvidia.driver()
    cards = [f"{card.name} {card.capability}" for card in driver.cards] if driver else []
    parts = [
        *(version, platform.machine(), processor.field("model name"), processor.field("flags")),
        *(str(driver.cuda if driver else ""), *cards),
        *(os.environ.get("XLA_FLAGS", ""), flags),
    ]
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return f"{version}-{digest[:16]}"


def prepared(name: str) -> Path:
    """The directory for these entries, the user's own, with nothing in it that is not as it was.

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
    for entry in files(directory, ENTRIES):
        if not is_whole(entry):
            remove(entry)
    for unfinished in files(directory, UNFINISHED):
        if time.time() - unfinished.lstat().st_mtime > ABANDONED:
            remove(unfinished)
    return directory


def files(directory: Path, pattern: str) -> list[Path]:
    """What is of TensorFlow's making: a directory or a link to one is not."""
    return [path for path in directory.glob(pattern) if not path.is_dir() or path.is_symlink()]


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
        if found.st_mode & 0o022:
            raise OSError(f"{place} is open to other users: chmod go-rwx {place}")
        if found.st_mode & forbidden:  # as TensorFlow makes one that was removed while it ran
            place.chmod(0o700)


def is_whole(entry: Path) -> bool:
    """Whether an entry is a file that has the sum noted beside it."""
    if entry.is_symlink():
        return False
    try:
        return sum_file(entry).read_text(encoding="utf-8") == sha256_of(entry)
    except (OSError, ValueError):
        return False


def sum_file(entry: Path) -> Path:
    """Where an entry's sum is noted."""
    return entry.with_name(entry.name + SUM)


def seal(directory: Path) -> None:
    """Notes the sums of what TensorFlow has added, and removes the oldest entries above BOUND."""
    check_owned(directory)
    for entry in files(directory, ENTRIES):
        with contextlib.suppress(FileNotFoundError):  # another process has removed it
            if not sum_file(entry).exists():
                write_text(sum_file(entry), sha256_of(entry))
    found = [(path.lstat(), path) for path in files(directory.parent, f"*/{ENTRIES}")]
    total = 0
    for status, entry in sorted(found, key=lambda item: item[0].st_mtime, reverse=True):
        total += status.st_size
        if total > BOUND:
            remove(entry)


def not_kept(message: str) -> str:
    """What is said where TensorFlow could not write an entry, from its message."""
    reason = message.partition("\n")[0].rpartition("; ")[2].rpartition("}} ")[2]
    return f"cannot keep what was compiled in {top()} ({reason}): {OFF} does without"


def remove(entry: Path) -> None:
    """Removes an entry and its sum; another process may have done so."""
    entry.unlink(missing_ok=True)
    sum_file(entry).unlink(missing_ok=True)
