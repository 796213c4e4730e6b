"""The core does without the extras, leaves the process as it was, and needs nothing of POSIX."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from script_runs import RUN_FILES, names, refused, with_sample_and_base

import classification_tuning.prep_dataset
import entailment_tuning.prep_dataset
import instruction_tuning.test
from classification_tuning import test as try_out
from classification_tuning import train
from gpt2_tuning import files, locks, startup
from gpt2_tuning.training import watching

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
GIVEN = {"TF_CPP_MIN_LOG_LEVEL": "1"}
"""What the user has said in the environment."""
OF_EXTRAS = [
    *("sandbox.py", "api.py", "connection.py", "measures.py", "server.py"),
    *("page.py", "events_page.py", "labelling_page.py", "rows_page.py", "writing_page.py"),
]
"""Modules that only functions import, once they know that the extra is there."""
NOT_ON_WINDOWS = {
    "os": ["fchmod", "geteuid", "getuid", "killpg", "setsid", "fork"],
    "signal": ["SIGKILL", "SIGHUP"],
}

IMPORTING = """
import gc, importlib, json, os, signal, sys
from pathlib import Path

absent, not_on_windows, of_extras = json.loads(sys.argv[1])
frozen = gc.get_freeze_count()  # Python itself may have, as 3.12 does
for name in absent:
    sys.modules[name] = None  # as if it were not installed
for module, names in not_on_windows.items():
    for name in names:
        delattr(sys.modules[module], name)

calls = []  # of ours: pyarrow has disabled the garbage collector, too, and enabled it again
for module, name in ((os, "dup2"), (gc, "freeze"), (gc, "disable")):
    def called(*given, name=name, function=getattr(module, name)):
        if sys._getframe(1).f_globals["__name__"].startswith("gpt2_tuning"):
            calls.append(name)
        return function(*given)
    setattr(module, name, called)

watched = ("sklearn", "matplotlib", "pandas")
class Watcher:  # is asked for every module that is imported
    @staticmethod
    def find_spec(name, path=None, target=None):
        calls.extend(f"hid {name}" for name in watched if sys.modules.get(name, name) is None)

sys.meta_path.insert(0, Watcher)
before = dict(os.environ)
import gpt2_tuning
added = {name: os.environ[name] for name in os.environ.keys() - before.keys()}

top = Path(gpt2_tuning.__file__).parents[1]
for path in sorted(top.glob("*_tuning/**/*.py")):
    if path.name != "__init__.py" and path.name not in of_extras:
        importlib.import_module(".".join(path.relative_to(top).with_suffix("").parts))
for name in gpt2_tuning.__all__:
    getattr(gpt2_tuning, name)

changed = [name for name in before if os.environ.get(name) != before[name]]
loaded = [name for name in absent if sys.modules[name] is not None]
print(json.dumps({"added": added, "changed": changed, "loaded": loaded, "calls": calls,
                  "tensorflow": "tensorflow" in sys.modules,
                  "frozen": gc.get_freeze_count() - frozen}))
"""


def modules_of_extras():
    """Every package that an extra but `dev` and `all` brings, by the module's name."""
    extras = PROJECT["optional-dependencies"]
    found = [line for name in extras.keys() - {"dev", "all"} for line in extras[name]]
    return sorted(re.split("[<>=]", line)[0].replace("-", "_") for line in found)


@pytest.fixture(scope="module")
def imported():
    """What a process finds that imports every module of ours where much is not installed."""
    absent = [*modules_of_extras(), "fcntl", "resource"]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING, json.dumps([absent, NOT_ON_WINDOWS, OF_EXTRAS])],
        capture_output=True,
        text=True,
        check=False,
        cwd=TOP / "src",
        env={name: os.environ[name] for name in os.environ if name not in startup.DEFAULTS} | GIVEN,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_extras_are_all_that_the_core_does_without():
    assert modules_of_extras() == [
        *("datasets", "fastapi", "gradio", "jinja2", "openpyxl", "prometheus_client"),
        *("rouge_score", "tensorflow_text", "tf_keras", "transformers", "uvicorn"),
    ]  # fmt: skip
    everything, *_ = PROJECT["optional-dependencies"]["all"]
    assert set(re.split(r"[\[\],]", everything)) - {"gpt2-tuning", ""} == (
        PROJECT["optional-dependencies"].keys() - {"all", "dev"}
    )


def test_every_module_imports_on_a_bare_core_install(imported):
    assert imported["tensorflow"]
    assert imported["loaded"] == []


def test_importing_the_library_sets_defaults_of_the_environment_and_nothing_else(imported):
    assert imported["added"] == {
        name: value for name, value in startup.DEFAULTS.items() if name not in GIVEN
    }
    assert imported["changed"] == []
    assert imported["calls"] == []
    assert imported["frozen"] == 0


@pytest.mark.parametrize(
    "script",
    [classification_tuning.prep_dataset, entailment_tuning.prep_dataset],
    ids=["classification", "entailment"],
)
def test_the_hub_without_its_extra_is_one_line_that_names_it(script, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    line = refused(script.main, capsys, "--output_dir", tmp_path / "set", silent=True)
    assert 'pip install -e ".[datasets]"' in line
    assert "--dataset sample" in line
    assert not names(tmp_path)


def test_responses_to_score_without_their_extra_are_one_line_that_names_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rouge_score", None)
    line = refused(instruction_tuning.test.main, capsys, "--evaluate", "--rouge_rows", "4")
    assert line.startswith("error: --rouge_rows 4 needs the package rouge-score")
    assert 'pip install -e ".[rouge]"' in line


def test_scripts_run_where_windows_lacks_what_posix_has(tmp_path, capsys, monkeypatch):
    """Prepared, trained, tested, with a file of answers: as on a file system without locks."""
    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(watching, "resource", None)
    for module, attributes in NOT_ON_WINDOWS.items():
        for attribute in attributes:
            monkeypatch.delattr(sys.modules[module], attribute)
    home = with_sample_and_base(tmp_path)
    run_dir, answers = home / "run", home / "answers.jsonl"
    (home / "rows.jsonl").write_text('{"text": "i feel fine"}\n')

    def run(script, **options):
        flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        assert script.main(flags) == 0, capsys.readouterr().err

    data, base = home / "data", home / "base"
    run(train, dataset_dir=data, pretrained=base, output_dir=run_dir, epochs=1)
    assert names(run_dir) - {"model"} == RUN_FILES
    assert "on a file system without locks" in capsys.readouterr().err
    run(try_out, run_dir=run_dir, input=home / "rows.jsonl", output=answers)
    assert json.loads(answers.read_bytes())["text"] == "i feel fine"
    assert names(home) == {"data", "base", "run", "rows.jsonl", "answers.jsonl"}
