import dataclasses
import json

import numpy as np
import pytest
from benchmarks import cases, common, report, rows, run
from benchmarks.report import Run

CASE = cases.CASES["step/lora/float32"]


def result(speed, peak, loss=10.9):
    figures = {"tokens_per_second": list(speed), "peak_mb": [peak]}
    return {"figures": figures, "guard": {"loss": loss}, "about": {"device": "CPU"}}


def summary_of(*runs):
    return report.summarized(CASE, runs)


def test_a_ratio_is_ours_over_the_best_variant_of_the_best_peer():
    summary = summary_of(
        Run("ours", "default", result([90, 300, 310], 2000)),
        Run("hf", "eager", result([200], 4000)),
        Run("hf", "compile", result([240], 5000)),
        Run("kerashub", "plain", result([150], 8000)),
    )
    assert summary["measured"]["ours"]["default"]["figures"]["tokens_per_second"]["median"] == 300
    assert summary["ratios"] == {
        "step/lora/float32": 1.25,  # the median 300 over compile's 240
        "step/lora/float32/memory": 0.5,  # 2,000 over eager's 4,000
    }
    assert summary["missing"] == {"kerashub/xla": "not measured: left out by a flag"}


def test_values_of_all_processes_count_together():
    summary = summary_of(
        Run("ours", "default", result([1, 2], 10)), Run("ours", "default", result([9], 30))
    )
    figures = summary["measured"]["ours"]["default"]["figures"]
    assert figures["tokens_per_second"] == {"values": [1, 2, 9], "median": 2}
    assert figures["peak_mb"]["median"] == 20
    assert summary["ratios"] == {}


def test_a_failing_peer_is_reported_and_not_compared():
    summary = summary_of(
        Run("ours", "default", result([300], 2000)), Run("hf", "eager", failure="no compiler")
    )
    assert summary["missing"]["hf/eager"] == "failed: no compiler"
    table = report.table([summary])
    assert "| failed |" in table
    assert "* step/lora/float32, hf/eager: failed: no compiler" in table


@pytest.mark.parametrize("loss", [10.902, float("nan")])
def test_another_loss_is_other_work_and_not_compared(loss):
    summary = summary_of(
        Run("ours", "default", result([300], 2000)), Run("hf", "eager", result([1], 1, loss))
    )
    assert summary["ratios"] == {}
    assert summary["missing"]["hf/eager"].startswith("not compared: its first loss")


def test_other_greedy_tokens_are_other_work():
    case = cases.CASES["generate/8/float32"]
    runs = [
        Run(worker, variant, {"figures": {}, "guard": {"tokens": tokens}})
        for worker, variant, tokens in (
            ("ours", "default", [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]),
            ("hf", "eager", [[1, 2, 3, 4, 5, 6, 7, 8, 9, 0]]),
            ("kerashub", "xla", [[1, 2, 3, 4, 5, 6, 7, 8, 0, 0]]),
        )
    ]
    missing = report.summarized(case, runs)["missing"]
    assert missing["kerashub/xla"] == "not compared: only 80% of its greedy tokens are ours"
    assert "hf/eager" not in missing


def test_later_rounds_take_the_fastest_variant_of_each_that_works():
    turns = [("ours", "default"), ("hf", "eager"), ("hf", "compile"), ("kerashub", "xla")]
    runs = [
        Run("ours", "default", result([1], 1)),
        Run("hf", "eager", result([5], 1)),
        Run("hf", "compile", result([4], 1)),
        Run("kerashub", "xla", failure="none"),
    ]
    assert run.fastest(turns, runs) == [("ours", "default"), ("hf", "eager")]


def test_the_table_stands_between_its_markers_with_every_figure():
    summary = summary_of(
        Run("ours", "default", result([300], 2000)), Run("hf", "eager", result([200], 4000))
    )
    machine = {"processor": "a processor", "cores": 2, "device": "CPU"}
    content = report.results(machine, [summary])
    assert content["ratios"] == {"step/lora/float32": 1.5, "step/lora/float32/memory": 0.5}
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    text = report.with_table(page, content)
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    row = "| step/lora/float32 | tokens/s | 300 | 200 (eager) | not measured | 1.50 |"
    assert row in text
    assert "| MB at the peak | 2,000 | 4,000 (eager) | not measured | 0.50 |" in text
    assert report.with_table(text, content) == text


def test_every_case_has_ours_and_each_peer_or_the_reason_why_not():
    for case in cases.CASES.values():
        assert case.variants[cases.OURS]
        for peer in cases.PEERS:
            assert case.variants.get(peer) or case.lacking.get(peer), (case.name, peer)


def test_names_of_cases_may_have_stars():
    assert [case.name for case in cases.chosen(["step/full/*"])] == [
        "step/full/float32",
        "step/full/bfloat16",
    ]
    assert len(cases.chosen([])) == len(cases.CASES)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--cases", "step/none"], "unknown case 'step/none'"),
        (["--peers", "nobody"], "unknown peer 'nobody'"),
        (["--variants", "fast"], "unknown variant 'fast'"),
        (["--repeats", "0"], "--repeats must be at least 1"),
        (["--peer_python", "/nowhere/python"], "/nowhere/python is missing"),
        (["--data", "/nowhere"], "--data /nowhere is not a directory"),
    ],
)
def test_a_mistake_is_one_line(flags, said, capsys):
    assert run.main(flags) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_rows_come_back_as_they_were_written(tmp_path):
    written = common.Rows(
        [np.array([5, 6], np.int32), np.array([7], np.int32)], np.array([1, 0], np.int32)
    )
    common.write_rows(tmp_path / "data" / "rows.npz", written)
    spec = common.Spec("", "", {"rows": 9}, tmp_path, 1, 0.0, str(tmp_path / "data" / "rows.npz"))
    read = common.read_rows(spec)
    assert [row.tolist() for row in read.ids] == [[5, 6], [7]]
    assert read.labels.tolist() == [1, 0]
    assert len(common.read_rows(dataclasses.replace(spec, settings={"rows": 1}))) == 1


def test_real_rows_are_read_with_their_labels(tmp_path):
    file = tmp_path / "train.tsv"
    file.write_text(
        'index\tsentence1\tsentence2\tlabel\n0\tA "cat.\tIt sits.\tnot_entailment\n'
        "1\tDogs run.\tThey move.\tentailment\n"
    )
    found = rows.rte(file)
    assert found.labels.tolist() == [1, 0]
    assert all(common.END_OF_TEXT in ids for ids in found.ids)


def test_results_of_this_machine_stay_and_those_of_another_go(tmp_path):
    options = run.Options(output=tmp_path / "results.json")
    ran = [Run("ours", "default", result([300], 2000)), Run("hf", "eager", result([200], 4000))]
    for name in ("step/full/float32", "step/lora/float32"):
        run.keep(report.summarized(cases.CASES[name], ran), options)
    content = json.loads(options.output.read_text())
    assert [case["name"] for case in content["cases"]] == ["step/lora/float32", "step/full/float32"]
    assert content["ratios"]["step/full/float32/memory"] == 0.5
    # A case in which ours fails does not make it another machine.
    failed = report.summarized(CASE, [Run("ours", "default", failure="lost")])
    run.keep(failed, options)
    assert len(json.loads(options.output.read_text())["cases"]) == 2
    content["machine"]["processor"] = "another"
    options.output.write_text(json.dumps(content))
    run.keep(failed, options)
    assert len(json.loads(options.output.read_text())["cases"]) == 1
