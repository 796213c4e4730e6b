"""What `--precision auto` comes to, what is said of it, and what a run records."""

import dataclasses

import pytest
import tensorflow as tf
import yaml
from prepared_sets import ROWS, header

from gpt2_tuning.options.training import ClassifierOptions
from gpt2_tuning.runs import tuned_model
from gpt2_tuning.training import precision, run, run_directory

METADATA = header(splits={name: {"files": []} for name in ROWS})
H200, A100, T4 = ("NVIDIA H200", (9, 0)), ("NVIDIA A100", (8, 0)), ("Tesla T4", (7, 5))
UNHEARD_OF = ("a card", None)


@pytest.fixture
def machine(monkeypatch):
    """Has TensorFlow see GPUs of these names and compute capabilities."""

    def with_gpus(*cards):
        details = [
            {"device_name": name} | ({"compute_capability": capability} if capability else {})
            for name, capability in cards
        ]
        monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: list(range(len(cards))))
        monkeypatch.setattr(
            tf.config.experimental, "get_device_details", lambda device: details[device]
        )

    return with_gpus


def resolved(**flags):
    options, line = precision.resolved(ClassifierOptions(**flags))
    return options.precision, line


@pytest.mark.parametrize(
    ("cards", "chosen", "reason"),
    [
        ([], "float32", "on a CPU"),
        ([H200, A100], "bfloat16", "NVIDIA A100 has units"),
        ([A100, T4], "float16", "Tesla T4 has no units for bfloat16; the loss is scaled"),
        ([UNHEARD_OF], "float32", "a card does not say"),
    ],
    ids=["cpu", "new", "one old", "unknown"],
)
def test_auto_is_what_every_gpu_has_units_for_and_says_so(machine, cards, chosen, reason):
    machine(*cards)
    found, line = resolved()
    assert found == chosen
    assert line.startswith(f"precision: {chosen}, ")
    assert reason in line


def test_only_the_devices_of_the_run_count(machine):
    machine(A100, T4)
    assert resolved(strategy="one")[0] == "bfloat16"
    assert resolved(strategy="mirrored", logical_devices=2)[0] == "float32"


def test_a_precision_that_was_asked_for_stays_and_needs_no_line(machine):
    machine(T4)
    for asked in ("float32", "bfloat16", "float16"):
        assert resolved(precision=asked) == (asked, "")


def test_float32_on_a_gpu_with_tensor_float_32_says_how_to_be_rid_of_it(machine):
    machine(H200)
    assert "--no_tensor_float_32" in resolved(precision="float32")[1]
    line = resolved(precision="float32", tensor_float_32=False)[1]
    assert line == "precision: float32; no TensorFloat-32"


@pytest.mark.parametrize(("gpus", "precision"), [((), "auto"), ((), "float32"), ((H200,), "auto")])
def test_no_tensor_float_32_says_where_it_has_no_effect(machine, gpus, precision):
    machine(*gpus)
    line = resolved(precision=precision, tensor_float_32=False)[1]
    assert "--no_tensor_float_32 has no effect: TensorFloat-32 is for float32 on GPUs" in line


def begin(run_dir, **flags):
    """What a training does until its directory is there."""
    options = ClassifierOptions(output_dir=run_dir, strategy="one", **flags)
    options, run_dir, _ = run.set_up("classification", options, METADATA)
    with run_directory.begun(run_dir, options, METADATA):
        return yaml.safe_load((run_dir / "options.yaml").read_text())["precision"]


def test_what_was_chosen_is_recorded_and_resumed_on_any_device(tmp_path, machine, capsys):
    machine(T4)
    assert begin(tmp_path / "run") == "float16"
    machine(A100)
    assert begin(tmp_path / "run", resume=True) == "float16"
    assert "precision: float16, with which the run was begun" in capsys.readouterr().out
    with pytest.raises(ValueError, match="started with --precision float16, not bfloat16"):
        begin(tmp_path / "run", resume=True, precision="bfloat16")


def test_a_run_killed_while_it_was_set_aside_is_resumed_in_its_precision(tmp_path, machine):
    begin(tmp_path / "run", precision="float16")
    aside = tmp_path / "run" / ".replaced"
    aside.mkdir()
    (tmp_path / "run" / "options.yaml").rename(aside / "options.yaml")
    machine(A100)
    assert begin(tmp_path / "run", resume=True) == "float16"


@pytest.mark.usefixtures("all_bits")  # or fewer: others find it as it was
@pytest.mark.parametrize(("rounded", "asked"), [(True, False), (False, True)])
def test_compiled_products_ask_for_all_bits_without_tensor_float_32(tmp_path, rounded, asked):
    options = ClassifierOptions(output_dir=tmp_path / "run", strategy="one")
    run.set_up("classification", dataclasses.replace(options, tensor_float_32=rounded), METADATA)
    compiled = tf.function(lambda x: x @ x, jit_compile=True)
    module = compiled.experimental_get_compiler_ir(tf.ones([64, 64]))(stage="hlo")
    assert ("operand_precision={highest" in module) == asked


@pytest.mark.parametrize(("settings", "rounded"), [("{}", True), ("tensor_float_32: false", False)])
def test_a_run_is_tested_with_the_products_of_its_training(tmp_path, settings, rounded):
    (tmp_path / "options.yaml").write_text(settings)
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    try:
        tuned_model.round_as_in_training(tmp_path)
        assert tf.config.experimental.tensor_float_32_execution_enabled() == rounded
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
