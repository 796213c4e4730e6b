"""The notebooks run from first cell to last, and what is stored in them is of such a run."""

import importlib
import re
import tempfile
import types
import zipfile
from pathlib import Path

import build_notebooks as build
import colab_environment
import nbformat
import pytest
import run_notebooks as run

from gpt2_tuning import cli

TOP = Path(__file__).parents[1]
TASKS = build.TASKS
OF_CLASSES = ("classification", "entailment")
GITHUB = "https://github.com/owner/name"
SHORT = "EPOCHS = READ = 1"


def stored(task):
    return nbformat.read(build.path_of(task), as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def printed(notebook):
    return "".join(output.get("text", "") for output in outputs(notebook))


def pictures(notebook):
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


def test_there_is_a_notebook_for_each_page():
    pages = {path.stem for path in build.SOURCES.glob("*.md")} - {Path(build.SHARED).stem}
    assert pages == set(TASKS)
    assert set(build.HERE.glob("*.ipynb")) == {build.path_of(task) for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_stored_notebook_is_the_one_that_its_page_and_pyproject_make(task):
    repository = build.repository_of(TOP / "pyproject.toml")
    made = build.build(task, repository)
    kept = [(cell.cell_type, cell.source, cell.id) for cell in stored(task).cells]
    assert kept == [(cell.cell_type, cell.source, cell.id) for cell in made.cells]
    assert "<!--" not in (text := build.page(task, repository))
    assert "@task@" not in text


@pytest.mark.parametrize(
    ("entry", "address", "opens_in_colab"),
    [
        ("", "", False),
        ('[project.urls]\nDocumentation = "https://x.org"', "", False),
        (f'[project.urls]\nRepository = "{GITHUB}"', GITHUB, True),
        (f'[project.urls]\nRepository = "{GITHUB}.git"', GITHUB, True),
        ('[project.urls]\nRepository = "https://x.org/name/"', "https://x.org/name", False),
    ],
)
def test_badge_and_install_cell_follow_pyproject(entry, address, opens_in_colab, tmp_path):
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\n{entry}\n')
    notebook = build.build("text", build.repository_of(tmp_path / "pyproject.toml"))
    (cell,) = (cell for cell in notebook.cells if cell.source.startswith("REPOSITORY = "))
    assert cell.source.split("  #")[0] == f'REPOSITORY = "{address}"'
    opened = "https://colab.research.google.com/github/owner/name/blob/main/notebooks/"
    assert (f"({opened}text_tuning.ipynb)" in notebook.cells[0].source) is opens_in_colab
    assert ("colab" in notebook.cells[0].source) is opens_in_colab


def test_installation_that_failed_is_an_error_whatever_pip_raised():
    """`%pip` and `!git` go on after a failure: here neither does anything."""
    cells = code_cells(build.build("text", GITHUB))
    (source,) = (cell.source for cell in cells if "%pip" in cell.source)
    lines = [line for line in source.splitlines() if not line.strip().startswith(("!", "%"))]
    install = "\n".join(lines).replace('"text_tuning"', '"not_there"').replace("gpt2-", "no-")
    with pytest.raises(RuntimeError, match="not installed"):
        exec(install, {"REPOSITORY": GITHUB})


def last_shown(notebook):
    """The last cell that shows something: the very last opens the page, which nobody asked for."""
    *_, last, page = code_cells(notebook)
    assert page.source.startswith("PAGE = False")
    assert not page.outputs
    return last


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_it_runs_on_the_sample(task, tmp_path, monkeypatch):
    """Without network, in an empty directory, from the settings to a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(TOP / "src"))
    done = run.execute(build.build(task, ""), tmp_path, SHORT)
    with zipfile.ZipFile(tmp_path / task / "adapter.zip") as archive:
        assert set(archive.namelist()) == {"adapter_config.json", "adapter_model.safetensors"}
    assert (tmp_path / task / "run" / "test.json").is_file()
    assert last_shown(done).outputs[0].text.strip()
    assert len(pictures(done)) == len(pictures(stored(task))) > 1


@pytest.mark.parametrize("task", TASKS)
def test_stored_outputs_are_those_of_a_sample_run(task):
    notebook = stored(task)
    assert notebook.metadata[build.RAN] == build.digest(build.build(task, ""))
    found = outputs(notebook)
    assert code_cells(notebook)[0].source.startswith("SAMPLE = True")
    assert last_shown(notebook).outputs
    assert pictures(notebook)
    assert not [o for o in found if o.output_type == "error" or o.get("name") == "stderr"]
    text = build.path_of(task).read_text(encoding="utf-8")
    assert len(text) <= run.LARGEST
    for unwanted in ("site-packages", "pypi", str(TOP), str(Path.home()), tempfile.gettempdir()):
        assert unwanted not in text


@pytest.mark.parametrize("task", OF_CLASSES)
def test_stored_sample_run_of_classes_is_above_its_baseline(task):
    assert "The intervals do not touch." in printed(stored(task))


@pytest.mark.parametrize("task", sorted(set(TASKS) - set(OF_CLASSES)))
def test_stored_sample_run_of_a_language_model_is_surer_than_the_unigram_model(task):
    line = r"perplexity of the test split: unigram ([\d,.]+), tuned ([\d,.]+)\n"
    ((unigram, tuned),) = re.findall(line, printed(stored(task)))
    assert float(tuned.replace(",", "")) < float(unigram.replace(",", ""))


@pytest.mark.parametrize("task", TASKS)
def test_the_real_thing_has_flags_that_exist(task):
    """With SAMPLE = False, which needs the network, the scripts' own parsers take the flags."""
    parsed = []

    def reader(name):
        options = importlib.import_module(f"{task}_tuning.{name}").Options

        def main(flags):
            parsed.append((name, cli.parse_options(options, flags)))
            return 0

        return types.SimpleNamespace(main=main)

    names = {name: reader(name) for name in ("prep_dataset", "train", "test")}
    names |= {"MY_FILE": None, "FILE": "book.txt"}
    cells = code_cells(build.build(task, ""))
    exec(cells[0].source.replace("SAMPLE = True", "SAMPLE = False"), names)
    for cell in cells:
        if "main(flags)" in cell.source:
            exec(cell.source, names)
    options = dict(parsed)
    assert list(options) == ["prep_dataset", "train", "test"]
    assert options["prep_dataset"].dataset is None
    assert options["train"].model_size == "124M"
    assert options["train"].pretrained in (None, "124M")
    assert options["train"].lora_rank == 8


def test_of_colabs_list_only_exact_versions_are_taken():
    listed = "keras==3.13.2\n# a comment\nx @ file:///y\ntorch==2.8.0+cu126\n\nnumpy>=2\n"
    assert colab_environment.pins(listed) == ["keras==3.13.2", "torch==2.8.0+cu126"]
