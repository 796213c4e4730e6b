"""The notebooks run from first cell to last, and what is stored in them is of such a run."""

import importlib
import types
import zipfile
from pathlib import Path

import nbformat
import pytest
import run_notebooks as run

from gpt2_tuning import cli

TOP = Path(__file__).parents[1]
TASKS = ("classification", "entailment", "instruction")


def path_of(task):
    return TOP / "notebooks" / f"{task}_tuning.ipynb"


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def pictures(notebook):
    return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


def test_there_is_a_notebook_for_each_task():
    assert [path_of(task) for task in TASKS] == run.NOTEBOOKS


@pytest.mark.parametrize("task", TASKS)
def test_it_runs_on_the_sample(task, tmp_path, monkeypatch):
    """Without network, in an empty directory, to the adapter's archive and the last picture."""
    monkeypatch.setenv("PYTHONPATH", str(TOP / "src"))
    done = run.execute(path_of(task), tmp_path)
    with zipfile.ZipFile(tmp_path / task / "adapter.zip") as archive:
        assert set(archive.namelist()) == {"adapter_config.json", "adapter_model.safetensors"}
    assert (tmp_path / task / "run" / "test.json").is_file()
    stored = nbformat.read(path_of(task), as_version=4)
    assert pictures(stored)
    assert len(pictures(done)) == len(pictures(stored))


@pytest.mark.parametrize("task", TASKS)
def test_stored_outputs_are_those_of_a_sample_run(task):
    text = path_of(task).read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert cells[0].source.startswith("SAMPLE = True")
    assert cells[-1].outputs[0].text.startswith(f"{task}/adapter.zip: ")
    found = outputs(notebook)
    assert not [o for o in found if o.output_type == "error" or o.get("name") == "stderr"]
    assert len(text) <= run.LARGEST
    assert "site-packages" not in text


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
    cells = code_cells(nbformat.read(path_of(task), as_version=4))
    exec(cells[0].source.replace("SAMPLE = True", "SAMPLE = False"), names)
    for cell in cells:
        if "main(flags)" in cell.source:
            exec(cell.source, names)
    options = dict(parsed)
    assert list(options) == ["prep_dataset", "train", "test"]
    assert options["prep_dataset"].dataset is None
    assert (options["train"].model_size, options["train"].pretrained) == ("124M", None)
    assert options["train"].lora_rank == 8
