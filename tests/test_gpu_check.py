"""scripts/gpu_check.sh: its commands parse, what fails or is cut off is recorded, and a tiny rehearsal passes."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gpu_check
import pytest
import tensorflow as tf
from gpu_check import Job

from loops import recipes
from parts.gpu_report import FAITHFUL, judge, markdown, summarize
from tests.catalog import ENTRIES

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "gpu_check.sh"
GPU = {"tensorflow": "2", "gpus": ["H"], "tflops": 7.0, "errors": {"product": [1e-3, 1e-2]}}
ENTRY = {"recipe": "inn_cifar10", "variant": "ours", "batch_size": 256, "ours_ms": 1.25}


def _script(*arguments, **settings) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHON": sys.executable}
    command = ["bash", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, **settings)


def _job(out: Path, name: str, program: str, stage: str = "time", **more) -> Job:
    """A job that runs a Python program, whose `result` writes what the stage's verdict reads."""
    path = out / stage / name / "result.json"
    head = f"import sys, time\ndef result(text): open({str(path)!r}, 'w').write(text)\n"
    return Job(stage, name, (sys.executable, "-c", head + program), **more)


def _good(out: Path, name: str, **more) -> Job:
    return _job(out, name, f"result({json.dumps(json.dumps([ENTRY]))})", **more)


def _recorded(out: Path, job: Job) -> dict:
    return json.loads((out / job.stage / job.name / "job.json").read_text())


def _record(stage: str, job: str, state: str = "passed", seconds: float = 60.0, tiny: bool = False, **figures) -> dict:
    values = {"stage": stage, "job": job, "state": state, "seconds": seconds, "tiny": tiny, "figures": figures}
    return values | {"finding": "5 | 7", "finished": "today", "command": []}


def test_the_shell_script_parses():
    assert subprocess.run(["bash", "-n", str(SCRIPT)]).returncode == 0


@pytest.mark.parametrize("tiny", [True, False])
def test_every_command_is_one_that_its_script_takes(tmp_path, tiny):
    (tmp_path / "FordA_part_TRAIN.tsv").touch()
    every = list(recipes.RECIPES)
    jobs = gpu_check.plan(tmp_path, str(tmp_path), every, every, tiny=tiny, no_gpu=tiny)
    assert len({(job.stage, job.name) for job in jobs}) == len(jobs)
    assert [job.name for job in jobs if job.stage == "train"] == every
    for job in jobs:
        python, file, *words = job.command
        for folder in (tmp_path / job.stage / job.name, tmp_path / "runs"):
            folder.mkdir(parents=True, exist_ok=True)
        arguments = importlib.import_module(Path(file).stem).parser().parse_args(words)
        assert python == sys.executable and Path(file).exists() and arguments.json.name == "result.json"
        if job.stage in ("precisions", "time", "train"):
            recipe = recipes.get(
                arguments.recipes[0] if "recipes" in arguments else vars(arguments).get("recipe") or arguments.what
            )
            settings = [text if isinstance(text, tuple) else tuple(text.split("=", 1)) for text in arguments.set]
            settings.append(("precision", arguments.precision))
            recipe = recipe.changed(settings)
            assert (recipe.dataset == "FordA_part") == (job.stage == "train" and recipe.datasets is None)


def test_no_recipe_and_no_certificate_is_left_out():
    assert gpu_check.TINY.keys() == recipes.RECIPES.keys()
    for name in ENTRIES:
        assert sum(part in name for part in gpu_check.CATALOG) == 1, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tim"], "unknown stage 'tim': give some of device, parity"),
        (["--recipe", "inn"], "invalid choice: 'inn'"),
        (["--data", "nowhere", "train"], "nowhere: no folder with one of"),
        (["--data", ".", "--tiny"], "no folder with one of"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(tmp_path, arguments, message):
    answer = _script("--out", tmp_path / "out", *arguments, cwd=tmp_path)
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1 and message in answer.stderr
    assert not any(tmp_path.iterdir())


def test_help_of_the_shell_script():
    answer = _script("--help")
    assert answer.returncode == 0 and "examples:" in answer.stdout and answer.stderr == ""


def test_a_failure_is_recorded_and_the_others_go_on(tmp_path):
    bad = _job(tmp_path, "bad", "print('begins')\nsys.exit('no such kernel')")
    silent = _job(tmp_path, "silent", "pass")
    slow = _job(tmp_path, "slow", 'result(\'[{"recipe": "x", "variant": "y", "ours_ms": NaN}]\')')
    good = _good(tmp_path, "good")
    half = _job(tmp_path, "half", f"result({json.dumps(json.dumps([ENTRY]))}); sys.exit(3)")
    gpu_check.run(tmp_path, [bad, silent, slow, half, good], 2, time.monotonic() + 60)
    found = {record["job"]: record for record in gpu_check.records(tmp_path)}
    assert {name: record["state"] for name, record in found.items()} == {
        "bad": "failed",
        "silent": "failed",
        "slow": "failed",
        "half": "failed",
        "good": "passed",
    }
    assert found["bad"]["finding"] == "exit code 1: no such kernel"
    assert found["half"]["finding"] == "exit code 3: ours 1.25 ms"
    assert "result.json" in found["silent"]["finding"] and found["slow"]["finding"] == "y nan ms"
    assert (tmp_path / "time" / "bad" / "log.txt").read_text() == "begins\nno such kernel\n"
    assert not summarize(list(found.values()))["passed"]


def test_what_has_passed_is_kept_by_name_and_only_for_the_same_command(tmp_path, capsys):
    good = _good(tmp_path, "good")
    assert not gpu_check.kept(tmp_path, good)
    gpu_check.run(tmp_path, [good], 1, time.monotonic() + 60)
    assert gpu_check.kept(tmp_path, good) and "time/good: kept, passed at" in capsys.readouterr().out
    assert not gpu_check.kept(tmp_path, Job("time", "good", (*good.command, "--turns")))


def test_the_deadline_ends_and_names_all(tmp_path):
    endless = _job(tmp_path, "endless", "time.sleep(300)")
    waiting = _good(tmp_path, "waiting")
    begin = time.monotonic()
    gpu_check.run(tmp_path, [endless, waiting], 1, begin + 1)
    assert time.monotonic() - begin < 30
    assert [_recorded(tmp_path, job)["state"] for job in (endless, waiting)] == ["cut off", "not run"]
    gpu_check.run(tmp_path, [waiting], 1, time.monotonic() + 60)
    gpu_check.run(tmp_path, [endless, waiting], 1, time.monotonic() - 1)  # nothing that is known is lost
    assert [_recorded(tmp_path, job)["state"] for job in (endless, waiting)] == ["cut off", "passed"]


def test_a_training_that_was_cut_off_goes_on_and_its_seconds_add_up(tmp_path):
    row = {"loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.5}
    summary = json.dumps({"epochs": 3, "seconds": 0.5, "data": "made", "last": row, "best": row})
    run = tmp_path / "runs" / "inn_cifar10"
    begin = f"import pathlib; run = pathlib.Path({str(run)!r})\nif '--resume' not in sys.argv:\n"
    begin += "    run.mkdir(parents=True); (run / 'recipe.json').write_text('{}'); time.sleep(300)\n"
    job = _job(tmp_path, "inn_cifar10", begin + f"result({summary!r}); (run / 'history.csv').touch()", "train", run=run)
    gpu_check.run(tmp_path, [job], 1, time.monotonic() + 2)
    before = _recorded(tmp_path, job)
    assert before["state"] == "cut off" and before["seconds"] >= 2
    gpu_check.run(tmp_path, [job], 1, time.monotonic() + 60)
    after = _recorded(tmp_path, job)
    assert after["state"] == "passed" and after["seconds"] >= before["seconds"]
    assert (tmp_path / "train" / "inn_cifar10" / "history.csv").exists() and run.exists()
    assert after["command"] == before["command"] == list(job.command)


def test_without_a_gpu_that_computes_the_other_stages_are_not_begun(tmp_path, monkeypatch, call):
    def plan(out, data, names, trained, **options):
        return [_job(out, "proof", "sys.exit('no GPU')", "device"), _good(out, "good")]

    monkeypatch.setattr(gpu_check, "plan", plan)
    code, text, _ = call("gpu_check", "--out", tmp_path / "gpu", "time")
    assert code == 1 and "device/proof: failed" in text and "stopped:" in text and "time/good" not in text
    code, text, _ = call("gpu_check", "--out", tmp_path / "cpu", "--cpu", "--json", tmp_path / "report.json")
    assert code == 1 and "device/proof: failed" in text and "time/good: passed" in text  # recorded, and on
    report = json.loads((tmp_path / "report.json").read_text())
    assert report == json.loads((tmp_path / "cpu" / "report.json").read_text()) and not report["passed"]
    code, text, _ = call("gpu_check", "--out", tmp_path / "cpu", "report")
    assert code == 1 and "| device | 0 | 1 | 0 | 0 | FAILED |" in text and "device/proof: failed" not in text
    code, _, _ = call("gpu_check", "--out", tmp_path / "none", "report")
    assert code == 1  # nothing recorded is nothing proven


def test_the_report_sets_figures_beside_targets():
    entries = [ENTRY, {**ENTRY, "variant": "formulation=patches", "ours_ms": 1.75}]
    jobs = [_record("time", "inn_cifar10", entries=entries), _record("time", "x", "failed")]
    assert [row["met"] for row in summarize(jobs)["targets"]] == [None, None]  # they are for a GPU
    report = summarize([_record("device", "proof", **GPU), *jobs])
    assert [row["met"] for row in report["targets"]] == [True, False] and not report["passed"]
    text = markdown(report)
    assert "| inn_cifar10, ours, batch 256 | 1.25 ms a step | 1.5 | 15 | met |" in text and "| missed |" in text
    assert "| time | 1 | 1 | 0 | 0 | FAILED |" in text and "| parity | | | | | nothing recorded |" in text
    assert text.index("time/x") < text.index("time/inn_cifar10") and "5 / 7" in text  # what did not pass comes first


def test_the_target_of_the_trainings_is_of_all_six_in_full_size():
    def total(names, **more):
        jobs = [_record("train", name, **more) for name in names]
        for i, job in enumerate(jobs):
            job["figures"] = {"seconds": 240.0 * (i == 0)}  # of a process that was killed: more than was recorded
        (row,) = summarize([_record("device", "proof", **GPU), *jobs])["targets"]
        return row["measured"], row["met"]

    assert total(FAITHFUL) == (4 + 5, True) and total(FAITHFUL, seconds=220.0) == (4 + 5 * 220 / 60, False)
    assert total(FAITHFUL[:5])[1] is None and total(FAITHFUL, tiny=True)[1] is None
    assert total((*FAITHFUL, "cnn_cifar10_best"))[0] == 4 + 5  # another one than the six


def _judged(folder: Path, stage: str, result=None, history: str | None = None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result))
    if history is not None:
        (folder / "history.csv").write_text(history)
    return judge(stage, folder)[:2]


def test_verdicts(tmp_path):
    assert _judged(tmp_path, "device", GPU)[0]
    right, finding = _judged(tmp_path, "device", GPU | {"errors": {"product": [float("nan"), 1e-2]}})
    assert not right and "product off by nan" in finding
    certificate = {"name": "a", "dtype": "float32", "values": 1e-6, "gradients": None, "steps": 2e-6, "ok": True}
    right, finding = _judged(tmp_path, "parity", [certificate])
    assert right and finding.endswith(
        "1 of 1 certificates hold; largest errors: values 1.0e-06, gradients -, steps 2.0e-06"
    )
    right, finding = _judged(tmp_path, "parity", [certificate, {**certificate, "name": "b", "ok": False}])
    assert not right and finding.startswith("1 of 2") and finding.endswith("FAILED: b float32")
    assert not _judged(tmp_path, "parity", [])[0]
    assert _judged(tmp_path, "precisions", history="loss,val_loss\n2.5,1.5\n") == (True, "loss 2.5, val_loss 1.5")
    assert not _judged(tmp_path, "precisions", history="loss,val_loss\n2.5,inf\n")[0]
    with pytest.raises(ValueError):
        _judged(tmp_path, "precisions", history="loss,val_loss\n")
    kernels = [{"us": 3.0}, {"us": None}]
    assert _judged(tmp_path / "x-kernels", "time", kernels)[0]
    assert not _judged(tmp_path / "x-kernels", "time", kernels[1:])[0]


def test_a_wrong_product_is_no_proof(monkeypatch, call, tmp_path):
    right = tf.matmul
    monkeypatch.setattr(tf, "matmul", lambda a, b: right(a, b) * 1.03)
    code, text, _ = call("gpu_device", "--cpu", "--json", tmp_path / "device.json")
    assert code == 1 and text.count("FAILED") == 1 and "2.0**-8" not in text
    errors = json.loads((tmp_path / "device.json").read_text())["errors"]
    assert len(errors) == 8 and [name for name, (e, limit) in errors.items() if e >= limit] == ["bfloat16 product"]


def test_a_rehearsal_from_the_shell(tmp_path):
    out = tmp_path / "out"
    arguments = ("--tiny", "--recipe", "mlp_forda", "--out", out, "device", "precisions", "report")
    answer = _script(*arguments, cwd=tmp_path)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "| precisions | 3 | 0 | 0 | 0 | passed |" in (out / "report.md").read_text()
    assert not any((out / "runs").iterdir())  # no checkpoint is left
    assert sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) < 100_000
    again = _script(*arguments, cwd=tmp_path)
    assert again.returncode == 0 and again.stdout.count(": kept, passed at") == 4 and answer.stdout.count("kept") == 0


def test_sigterm_ends_the_jobs_and_is_reported(tmp_path):
    environment = os.environ | {"PYTHON": sys.executable}
    command = ["bash", str(SCRIPT), "--tiny", "--recipe", "vit_cifar100", "--out", str(tmp_path), "precisions"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not list(tmp_path.glob("precisions/*/log.txt")) and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        text, _ = process.communicate(timeout=120)
    assert process.returncode == 143 and "cut off" in text and (tmp_path / "report.md").exists()
