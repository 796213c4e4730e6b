import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks import cases, common, machine, report, rows, run, table, worker
from benchmarks.report import Run

from gpt2_tuning import nvidia, processor
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.training.strategy import make_strategy

CASE = cases.CASES["step/lora/float32"]


def result(speed, peak, loss=10.9):
    figures = {"tokens_per_second": list(speed), "peak_mb": [peak]}
    return {"figures": figures, "guard": {"loss": loss}, "about": {"device": "CPU"}}


def summary_of(*runs):
    return report.summarized(CASE, runs)


def test_a_gpu_has_results_of_its_own(monkeypatch):
    monkeypatch.setattr(nvidia, "driver", lambda: None)
    assert run.Options().output == run.RESULTS
    card = nvidia.Card("NVIDIA H100 80GB HBM3", (9, 0), 80, 80)
    monkeypatch.setattr(nvidia, "driver", lambda: nvidia.Driver((12, 4), [card]))
    assert run.Options().output == run.HERE / "results_nvidia_h100_80gb_hbm3.json"


@pytest.mark.slow
def test_our_step_is_of_a_model_in_the_strategy_s_scope(text_config, tmp_path, monkeypatch):
    """Else the model's weights are of one device, and Keras's optimizer refuses them."""
    from benchmarks import ours

    strategy = make_strategy("mirrored")
    monkeypatch.setattr(ours, "make_strategy", lambda name: strategy)
    config = dataclasses.replace(text_config, n_positions=1024)
    GPT2LanguageModel(config).built_now().save_pretrained(tmp_path / common.BASES[common.GPT2])
    settings = {**cases.STEP, "tuning": "lora", "precision": "float32", "lora": cases.LORA}
    spec = common.Spec("step", "default", settings, tmp_path, 60, 0.0)
    steps = ours.step_functions(ours.training_model(spec))
    assert steps.strategy.num_replicas_in_sync == 2
    assert np.isfinite(steps.train(ours.shared_batch(2, 8, 4)).numpy()).all()


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


def test_a_variant_that_left_after_a_lucky_round_is_not_the_best():
    summary = summary_of(
        Run("ours", "default", result([300], 2000)),
        Run("hf", "eager", result([290], 3000)),
        Run("hf", "compile", result([200, 240, 250], 5000)),
    )
    assert summary["ratios"] == {
        "step/lora/float32": 1.25,
        "step/lora/float32/memory": 0.667,  # for which a process has one value, its last
    }


def test_a_failing_peer_is_reported_and_not_compared():
    summary = summary_of(
        Run("ours", "default", result([300], 2000)),
        Run("hf", "eager", missing="failed: no compiler"),
    )
    assert summary["missing"]["hf/eager"] == "failed: no compiler"
    text = table.written([summary])
    assert "| failed |" in text
    assert "* step/lora/float32, hf/eager: failed: no compiler" in text
    assert run.holds(summary)


def test_a_peer_that_is_too_slow_is_named_so_and_no_failure():
    why = "stopped: 300 s without a step, where ours takes 7.0 s"
    summary = summary_of(
        Run("ours", "default", result([300], 2000)),
        Run("hf", "eager", missing=why),
        Run("hf", "compile", missing=why),
    )
    text = table.written([summary])
    assert "| step/lora/float32 | tokens/s | 300 | too slow | not measured |  |" in text
    assert f"* step/lora/float32, hf/eager, hf/compile: {why}" in text
    assert run.holds(summary)


def test_figures_of_a_worker_that_failed_later_count():
    failed = Run("hf", "eager", result([400], 2000), missing="failed: no memory left")
    summary = summary_of(Run("ours", "default", result([300], 2000)), failed)
    assert summary["ratios"]["step/lora/float32"] == 0.75
    assert "hf/eager: failed: no memory left" in table.written([summary])


def test_grouping_by_length_is_a_ratio_of_its_own():
    def epochs(speed):
        figures = {"rows_per_second": [speed], "first_epoch_rows_per_second": [speed / 2]}
        return {"figures": figures}

    ran = [
        Run("ours", "default", epochs(12.0)),
        Run("hf", "weights", epochs(4.0)),
        Run("kerashub", "mixed-dynamic", epochs(6.0)),
    ]
    case = cases.CASES["epoch/emotion"]
    random = {"epoch/emotion": 2.0, "epoch/emotion/first_epoch": 2.0}
    assert report.summarized(case, ran)["ratios"] == random
    grouped = report.summarized(case, [*ran, Run("hf", "weights-grouped", epochs(8.0))])
    assert grouped["ratios"] == {**random, "epoch/emotion/grouped": 1.5}
    text = table.written([grouped])
    peers = "8.0 (weights-grouped) | 6.0 (mixed-dynamic)"
    assert f"|  | rows/s, grouping by length allowed | 12.0 | {peers} | 1.50 |" in text
    assert "| epoch/emotion | rows/s | 12.0 | 4.0 (weights) | 6.0 (mixed-dynamic) | 2.00 |" in text


def test_curves_of_ours_alone_have_a_table_of_their_own():
    ran = [Run("ours", "default", {"figures": {"batch 4: s a step": [2.0, 3.0, 4.0]}})]
    text = table.written([report.summarized(cases.CASES["scaling/batch"], ran)])
    assert text.splitlines()[0] == "| ours alone | figure | value |"
    assert text.splitlines()[-1] == "| scaling/batch | batch 4: s a step | 3.000 |"


@pytest.mark.parametrize("loss", [10.902, float("nan")])
def test_another_loss_is_other_work(loss):
    problem = report.disagreement(CASE, result([300], 2000), result([1], 1, loss))
    assert problem
    assert problem.startswith("its first loss is ")
    assert report.disagreement(CASE, result([300], 2000), result([1], 1, 10.9005)) is None


def test_other_greedy_tokens_are_other_work():
    case = cases.CASES["generate/8/float32"]
    ours, same, other = (
        {"guard": {"tokens": [[*range(count), *[99] * (10 - count)]]}} for count in (10, 9, 8)
    )
    assert report.disagreement(case, ours, same) is None
    assert report.disagreement(case, ours, other) == "only 80% of its greedy tokens are ours"


def test_the_table_stands_between_its_markers_with_every_figure():
    summary = summary_of(
        Run("ours", "default", result([300], 2000)), Run("hf", "eager", result([200], 4000))
    )
    here = {"processor": "a processor", "instructions": ["avx2"], "cores": 2, "device": "CPU"}
    content = report.results(here, [summary])
    assert content["ratios"] == {"step/lora/float32": 1.5, "step/lora/float32/memory": 0.5}
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    text = table.in_page(page, content)
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    row = "| step/lora/float32 | tokens/s | 300 | 200 (eager) | not measured | 1.50 |"
    assert row in text
    assert "|  | MB at the peak | 2,000 | 4,000 (eager) | not measured | 0.50 |" in text
    assert table.in_page(text, content) == text


def test_every_case_has_ours_and_each_peer_or_the_reason_why_not():
    for case in cases.CASES.values():
        assert case.variants[cases.OURS]
        for peer in cases.PEERS:
            assert case.variants.get(peer) or case.lacking.get(peer), (case.name, peer)


def test_time_of_the_processors_is_busy_but_for_idle_and_waiting():
    tick = 1 / machine.os.sysconf("SC_CLK_TCK")
    line = "cpu  1 20 300 4000 50000 600000 7000000 80000000 0 0\ncpu0 9 9 9"
    assert machine.busy_seconds(line) == pytest.approx(87600321 * tick)


def test_processors_of_one_name_are_told_apart_by_what_they_multiply(tmp_path, monkeypatch):
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "FILE", file)
    assert machine.described("CPU")["instructions"] == []
    flags = "fpu avx512_bf16 avx2 avx512f_other"
    file.write_text(f"model name\t: A\nflags\t\t: {flags}\nflags : none\n")
    here = machine.described("CPU")
    assert (here["processor"], here["instructions"]) == ("A", ["avx2", "avx512_bf16"])


def test_our_own_processes_are_no_other_use(tmp_path, monkeypatch):
    statistics = tmp_path / "stat"
    monkeypatch.setattr(machine, "STATISTICS", statistics)
    assert machine.OtherUse().share() is None
    clock = iter([0.0, 10.0])
    monkeypatch.setattr(machine.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 2)
    spent = iter([(0.0, 0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 5.0, 1.0, 0.0)])
    monkeypatch.setattr(machine.os, "times", lambda: next(spent))
    tick = machine.os.sysconf("SC_CLK_TCK")
    statistics.write_text("cpu 0 0 0 0 0 0 0 0 0 0\n")
    others = machine.OtherUse()
    statistics.write_text(f"cpu {12 * tick} 0 0 0 0 0 0 0 0 0\n")
    # 12 s of work less 8 s of ours, of 10 s on two cores.
    assert others.share() == pytest.approx(0.2)


def test_whose_variant_a_figure_is_stands_beside_it_where_there_are_several():
    summary = summary_of(
        Run("ours", "float32", result([300], 2000)), Run("hf", "default", result([200], 4000))
    )
    assert "| tokens/s | 300 (float32) | 200 |" in table.written([summary])


def test_a_busy_machine_is_named():
    summary = summary_of(Run("ours", "default", result([300], 2000)))
    for share, named in ((None, False), (0.05, False), (0.31, True)):
        text = table.written([{**summary, "others": share}])
        assert ("busy machine, other processes had 31% of its cores" in text) == named


def test_generation_has_top_p_and_the_first_token_in_three_rounds_alone():
    done = []

    def generate(sampler, count):
        done.append((sampler, count))
        return [[7] * count]

    spec = common.Spec("generate", "", {"batch": 1, "new": 4}, Path(), 300, 0.0)
    ready = worker.generations(spec, generate, lambda: 1.0)
    assert ready.measure
    each = [("greedy", 4), ("top_p", 4), ("greedy", 1)]
    assert ready.guard == {"tokens": [[7] * 4]}
    assert done == each  # each way once, to warm up
    names = [set(ready.measure(number)) for number in range(4)]
    assert done == [*each * 4, ("greedy", 4)]
    always = {"tokens_per_second", "peak_mb"}
    assert names[:3] == [{*always, "top_p_tokens_per_second", "first_token_seconds"}] * 3
    assert names[3] == always


def test_the_first_epoch_warms_up_and_is_a_figure_of_its_own():
    done: list[int] = []
    ready = worker.epochs(done.append, 8, lambda: 1.0)
    assert ready.measure
    assert done == [0]
    assert set(ready.figures) == {"first_epoch_rows_per_second"}
    assert set(ready.measure(0)) == {"rows_per_second", "peak_mb"}
    assert done == [0, 1]


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
    spec = common.Spec("", "", {"rows": 9}, tmp_path, 300, 0.0, str(tmp_path / "data" / "rows.npz"))
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
    failed = report.summarized(CASE, [Run("ours", "default", missing="failed: lost")])
    run.keep(failed, options)
    assert len(json.loads(options.output.read_text())["cases"]) == 2
    content["machine"]["processor"] = "another"
    options.output.write_text(json.dumps(content))
    run.keep(failed, options)
    assert len(json.loads(options.output.read_text())["cases"]) == 1
