"""One mutant of `make fuzz`: a file or a flag is spoilt, a script runs and is judged."""

import collections
import dataclasses
import importlib
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import fuzz_mutations
from chaos import PRELOADED
from fuzz_cases import CASES, OUT, Case
from fuzz_watch import changes, forget_peak, remove, resident, tree

from gpt2_tuning.errors import UserError

FLAGS_SHARE = 0.15
"""Of mutants whose flags are spoilt, not a file."""
ENCODINGS = ("utf-8", "utf-8", "utf-8", "ascii", "cp1252")
"""Of what is shown."""
SAID = ("error: ", "note: ", "warning: ")
"""What a line on standard error begins with."""
MOST_SHOWN = 20_000
"""Characters of what a script says."""
SPOILT = Path("../spoilt")
"""The file of a mutant that ended amiss."""
PATHS = {
    "config",
    "output",
    "input",
    "run_dir",
    "dataset_dir",
    "output_dir",
    "resume",
    "interactive",
}
ENDLESS = {"max_updates", "epochs", "seeds"}
"""Flags of places, and those by which a training may rightly take a year."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A case, and what is spoilt of it; all follows from the seed and the number."""

    case: Case
    words: str
    flags: list[str]
    path: Path | None
    """The file that is spoilt."""
    mutation: fuzz_mutations.Mutation | None
    encoding: str


@dataclasses.dataclass
class Outcome:
    """How a mutant ended."""

    number: int
    case: str
    words: str
    code: object = None
    said: str = ""
    wrong: str = ""
    """What is not as it must be; empty where nothing is."""
    seconds: float = 0.0
    memory: float = 0.0
    """Megabytes above what the process had before."""


def mutant_of(seed: int, number: int, stages: tuple[str, ...]) -> Mutant:
    """The mutant of a number. Copies to `out` what its script writes to."""
    random_ = random.Random(f"{seed} {number}")
    cases = [case for case in CASES if case.stage in stages]
    case = random_.choices(cases, [case.weight for case in cases])[0]
    encoding = random_.choice(ENCODINGS)
    flags = list(case.flags)
    lay_out(case)
    if random_.random() < FLAGS_SHARE:
        words, flags = fuzz_mutations.of_flags(random_, flags, flags_of(case))
        return Mutant(case, words, flags, None, None, encoding)
    pattern = random_.choice(case.files)
    path = next(Path().glob(pattern))
    mutation = fuzz_mutations.mutation(random_, path)
    return Mutant(case, f"{path}: {mutation.words}", flags, path, mutation, encoding)


def lay_out(case: Case) -> None:
    """Makes `out` anew, with what the script goes by there."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    for source, target in case.copies.items():
        shutil.copytree(source, target, dirs_exist_ok=True)


def flags_of(case: Case) -> list[str]:
    """The flags of a script that take no path, and do not say how long it works."""
    task, _, step = case.script.partition("_tuning.")
    module = {"prep_dataset": "prepare"}.get(step, step)
    options = importlib.import_module(f"gpt2_tuning.tasks.{task}.{module}").Options
    names = [field.name for field in dataclasses.fields(options)]
    return [f"--{name}" for name in names if name not in PATHS | ENDLESS and "_file" not in name]


def serve(connection: Connection, home: Path, seed: int, stages: tuple[str, ...]) -> None:
    """Runs the mutants whose numbers come, until None does; sends how each ended."""
    preload()
    import keras

    os.chdir(home)
    pristine = home.parent / "pristine"
    connection.send("ready")
    while (number := connection.recv()) is not None:
        found = outcome(seed, number, stages, pristine)
        connection.send(vars(found))
        if not found.case.startswith("prepare"):
            keras.backend.clear_session()


def preload() -> None:
    """Imports what scripts import, so that no mutant's time or memory has it."""
    import tensorflow

    from gpt2_tuning.data.tokenizer import default_tokenizer

    for name in PRELOADED:
        importlib.import_module(name)
    tensorflow.zeros([1])
    tensorflow.get_logger().setLevel("ERROR")  # of functions traced anew, in a process that stays
    default_tokenizer().encode("x")


def outcome(seed: int, number: int, stages: tuple[str, ...], pristine: Path) -> Outcome:
    """Runs a mutant; what it changed is put back from a copy of the directory."""
    mutant = mutant_of(seed, number, stages)
    found = Outcome(number, mutant.case.name, mutant.words)
    Path("../words.txt").write_text(f"{found.case}: {found.words}", errors="backslashreplace")
    touched = mutant.path and OUT not in mutant.path.parents
    try:
        if mutant.path and mutant.mutation:
            mutant.path.unlink()
            mutant.mutation.make(mutant.path)
        before, begin, memory = tree(), time.monotonic(), resident("VmRSS")
        forget_peak()
        found.code, out, err = run(mutant.case.script, mutant.flags, mutant.encoding)
        found.seconds = time.monotonic() - begin
        found.memory = resident("VmHWM") - memory
        found.said = (out + err)[-MOST_SHOWN:]
        found.wrong = complaint(mutant, found.code, out, err) or changes(before)
        if not found.wrong and found.code == 0:
            found.wrong = compare(mutant, out)
        if found.wrong and mutant.path and mutant.path.is_file():
            shutil.copy(mutant.path, SPOILT)
    finally:
        if touched and mutant.path:
            remove(mutant.path)
            shutil.copy2(pristine / mutant.path, mutant.path)
    return found


def run(script: str, flags: list[str], encoding: str) -> tuple[object, str, str]:
    """A script's exit code, and what it wrote to standard output and standard error."""
    files = [tempfile.TemporaryFile() for _ in (1, 2)]  # noqa: SIM115
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    streams = sys.stdout, sys.stderr
    code: object = None
    try:
        for descriptor, file in enumerate(files, start=1):
            os.dup2(file.fileno(), descriptor)
        sys.stdout, sys.stderr = (fuzz_mutations.stream(encoding, number) for number in (1, 2))
        try:
            code = importlib.import_module(script).main(flags)
        except SystemExit as stop:
            code = stop.code
        except BaseException:
            code = "exception"
            traceback.print_exc()
        for stream in (sys.stdout, sys.stderr):
            stream.close()
    finally:
        sys.stdout, sys.stderr = streams
        for descriptor, copy in enumerate(kept, start=1):
            os.dup2(copy, descriptor)
            os.close(copy)
    shown = []
    for file in files:
        file.seek(0)
        shown.append(file.read().decode(encoding, "replace"))
        file.close()
    return code, shown[0], shown[1]


def complaint(mutant: Mutant, code: object, out: str, err: str) -> str:
    """What is wrong with an exit code and what was said; empty where nothing is."""
    lines = [line for line in err.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    if "Traceback" in out + err:
        return "traceback"
    if code not in (0, 2):
        return f"exit code {code}"
    if code == 2 and (len(errors) != 1 or not lines[-1].startswith("error: ")):
        return f"{len(errors)} lines of an error"
    if code == 0 and errors:
        return "an error with exit code 0"
    if others := [line for line in lines if not line.startswith(SAID)]:
        return f"on standard error: {others[0][:200]}"
    return ""


def compare(mutant: Mutant, out: str) -> str:
    """What of the content is not as it is where nothing is spoilt; empty where nothing differs."""
    case = mutant.case
    try:
        found = case.content()
    except (ValueError, UserError, OSError) as error:
        return f"what was written cannot be read: {error}"
    shown = [line for line in out.splitlines() if not line.startswith("note: ")]
    if mutant.mutation is None or case.name == "recipe":  # flags say what is done
        return ""
    expected, usual = unspoilt(case)
    if isinstance(expected, collections.Counter) and isinstance(found, collections.Counter):
        missing = (expected - found).total()
        touches = None if "utf16" in mutant.words else mutant.mutation.touches
        if touches is None or missing <= touches:
            return ""
        return f"{missing} examples are missing or differ"
    if found == expected and (case.content.__name__ != "nothing" or shown == usual):
        return ""
    return "" if is_meant(mutant) else "another result"


DECIDING = (
    "layer_norm_epsilon",
    *("activation_function", "scale_attn_weights", "lora_alpha", "rank_pattern", "alpha_pattern"),
    "target_modules",
)
"""Fields that say what is computed, where no sum of the file is on record."""


def is_meant(mutant: Mutant) -> bool:
    """Whether the spoilt file may say that something else is computed."""
    if mutant.case.name == "resume":  # goes back to a checkpoint that is whole, to the same end
        return False
    if any(name in mutant.words for name in DECIDING):
        return True
    name = mutant.path.name if mutant.path else ""
    return name.endswith((".safetensors", ".jsonl", ".csv", ".json", ".parquet", ".gz"))


USUAL: dict[str, tuple[object, list[str]]] = {}


def unspoilt(case: Case) -> tuple[object, list[str]]:
    """What a case leaves and shows where nothing is spoilt."""
    if case.name not in USUAL:
        kept = OUT.rename("../out-of-the-mutant")
        pristine = Path.cwd().parent / "pristine"
        here = Path.cwd()
        os.chdir(pristine)
        try:
            lay_out(case)
            code, out, err = run(case.script, list(case.flags), "utf-8")
            if code != 0:
                raise RuntimeError(f"{case.name} ends with {code}: {err}")
            lines = [line for line in out.splitlines() if not line.startswith("note: ")]
            USUAL[case.name] = case.content(), lines
        finally:
            shutil.rmtree(OUT)
            os.chdir(here)
        kept.rename(OUT)
    return USUAL[case.name]
