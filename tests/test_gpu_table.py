"""The table of a GPU fits into its time, and what was cut off leaves what it had."""

import json
import sys
import time
from pathlib import Path

import pytest
from benchmarks import common, gpu_table, gpu_targets, ours, side_by_side
from benchmarks.cases import Case
from benchmarks.gpu_table import LINES, Line
from benchmarks.processes import ROOT, Process

from gpt2_tuning.models.device_choices import GPU, choosing

WORKER = Path(__file__).with_name("fake_worker.py")


def entry(name="step/lora/8x256", missing=None, **variants):
    """An entry with speeds by worker and variant, `ours_loop=300`."""
    measured: dict[str, dict] = {}
    for who, speed in variants.items():
        worker, variant = who.split("_")
        figures = {"tokens_per_second": {"values": [speed], "median": speed}}
        measured.setdefault(worker, {})[variant] = {"figures": figures}
    return {"name": name, "measured": measured, "missing": missing or {}, "ratios": {}}


@pytest.fixture
def lines(monkeypatch):
    """Replaces all lines; those that are measured are noted with the time they were given."""
    noted = []

    def replace(**seconds_and_entries):
        def line(name, seconds, entries):
            def measure(options, given):
                noted.append((name, given))
                yield from entries

            return Line(seconds, measure)

        made = {name: line(name, *each) for name, each in seconds_and_entries.items()}
        monkeypatch.setattr(gpu_table, "LINES", made)
        return noted

    return replace


def test_all_lines_together_fit_into_eight_minutes():
    assert sum(line.seconds for line in LINES.values()) <= 60 * gpu_table.Options().minutes == 480
    assert next(iter(LINES)) == "first/124M"


def test_a_line_has_what_earlier_ones_left_and_results_are_there_after_each(lines, tmp_path):
    output = tmp_path / "new" / "table.json"

    def seen():
        content = json.loads(output.read_text())
        yield entry("b", ours_default=len(content["entries"]))

    noted = lines(a=(100, [entry("a", ours_default=1)]), b=(50, seen()))
    flags = ["--output", str(output), "--work", str(tmp_path / "work")]
    assert gpu_table.main(flags) == 0
    (_, first), (_, second) = noted
    assert first == 100
    assert 149 < second <= 150
    content = json.loads(output.read_text())
    assert [each["line"] for each in content["entries"]] == ["a", "b"]
    (last,) = content["entries"][1]["measured"]["ours"].values()
    assert last["figures"]["tokens_per_second"]["median"] == 1  # a's was written before


def test_results_that_have_no_place_are_refused_before_any_line(lines, tmp_path, capsys):
    noted = lines(a=(100, [entry("a", ours_default=1)]))
    assert gpu_table.main(["--output", str(tmp_path), "--work", str(tmp_path / "work")]) == 2
    assert not noted
    assert str(tmp_path) in capsys.readouterr().err


def test_no_line_is_begun_once_the_time_is_over(lines, tmp_path, capsys):
    noted = lines(a=(100, []), b=(100, []))
    flags = ["--output", str(tmp_path / "t.json"), "--work", str(tmp_path), "--minutes", "1e-9"]
    assert gpu_table.main(flags) == 0
    assert not noted
    assert "a: not begun" in capsys.readouterr().out


def test_a_line_of_ours_without_figures_is_an_error(lines, tmp_path):
    lines(a=(9, [entry(missing={"hf/weights": "failed: no torch"})]))
    flags = ["--output", str(tmp_path / "t.json"), "--work", str(tmp_path)]
    assert gpu_table.main(flags) == 0
    lines(a=(9, [entry(missing={"ours/default": "failed: no memory"})]))
    assert gpu_table.main(flags) == 1


def test_every_variant_has_a_row_with_its_ratio_and_target():
    found = entry(ours_default=500, ours_loop=300, hf_weights=200, hf_compile=250)
    rows = list(gpu_targets.as_rows([found]))
    assert [row[2:] for row in rows] == [
        ["ours/default", "500", "2.00", "≥ 2 x the peer"],
        ["ours/loop", "300", "1.20", "≥ 2 x the peer"],
        ["hf/weights", "200", "", ""],
        ["hf/compile", "250", "", ""],
    ]


def test_targets_that_are_missed_or_not_measured_are_named():
    short, long = (
        entry(f"step/lora/{name}", ours_default=speed, ours_loop=300, hf_weights=200)
        for name, speed in (("8x256", 400), ("8x1024", 390))
    )
    lines = list(gpu_targets.missed([short, long]))
    assert "misses its target: step/lora/8x1024, tokens/s: 1.95, not 2" in lines
    assert not any("8x256, tokens/s" in line for line in lines)
    assert "not measured: demo, s, command to end" in lines


def test_variants_get_ready_side_by_side_and_one_that_hangs_is_cut_off(tmp_path):
    how = {"own": {"speed": 5.0}, "slow": {"hangs": True}, "other": {"speed": 3.0, "loss": 9.0}}
    case = Case("step/fake", "step", how, {"ours": ("own",), "hf": ("slow", "other")})
    turns = [("ours", "own"), ("hf", "slow"), ("hf", "other")]
    alive = []

    def launch(case, worker, variant):
        spec = {"kind": "step", "variant": variant, "settings": how, "work": str(tmp_path)}
        line = json.dumps({**spec, "timeout": 9, "launched": 0.0})
        alive.append(Process([sys.executable, str(WORKER), line], {"PYTHONPATH": str(ROOT)}))
        return alive[-1]

    said: list[str] = []
    begun = time.monotonic()
    (summary,) = side_by_side.summaries([case], lambda _: turns, launch, 2, 20.0, said.append)
    assert 15 <= time.monotonic() - begun < 25  # three quarters of the time to get ready
    assert all(process.popen.poll() is not None for process in alive)
    assert summary["missing"]["hf/slow"].startswith("stopped:")
    assert summary["missing"]["hf/other"].startswith("not compared: its first loss is 9.0")
    figures = summary["measured"]["ours"]["own"]["figures"]
    assert figures["tokens_per_second"]["values"] == [5.0, 6.0]
    assert "hf" not in summary["measured"]


def test_variants_of_ours_are_the_forms_of_each_choice():
    def chosen(variant):
        spec = common.Spec("step", variant, {}, Path(), 60, 0.0)
        with choosing(GPU):
            return ours.choices_of(spec)

    assert chosen("default") == GPU
    assert chosen("loop").blocks_in_a_loop
    assert chosen("atonce").attention_blocks_from is None
    assert GPU.attention_blocks_from is not None


def test_a_line_that_nobody_knows_is_one_line(capsys):
    assert gpu_table.main(["--lines", "cold"]) == 2
    assert "unknown line 'cold': choose among first/124M" in capsys.readouterr().err


@pytest.mark.slow
def test_the_first_step_is_measured_on_any_device(tmp_path, capsys):
    output = tmp_path / "table.json"
    flags = [
        "--trial",
        "--lines",
        "first/124M",
        "first/124M/loop",
        "--work",
        str(tmp_path / "work"),
    ]
    assert gpu_table.main([*flags, "--output", str(output)]) == 0
    default, loop = json.loads(output.read_text())["entries"]
    assert list(default["measured"]["ours"]) == ["default"]
    assert list(loop["measured"]["ours"]) == ["loop"]
    for found in (default["measured"]["ours"]["default"], loop["measured"]["ours"]["loop"]):
        assert found["figures"]["first_step_s"]["median"] > 0
    assert "≤ 15" in capsys.readouterr().out
