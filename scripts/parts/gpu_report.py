"""What gpu_check.py makes of its jobs' results: a verdict on each, and a report with the figures beside the targets."""

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path

STAGES = ("device", "parity", "precisions", "time", "train", "report")
FAITHFUL = ("convnet_cifar10", "inn_cifar10", "vit_cifar100", "perceiver_cifar100", "transformer_forda", "cnn_cifar10")
TARGETS = {  # milliseconds a step in mixed_bfloat16: ours, and the published one (in float32, on other GPUs)
    "vit_cifar100": (8, 125),
    "perceiver_cifar100": (12, 402),
    "convnet_cifar10": (1.5, 10),
    "inn_cifar10": (1.5, 15),
    "transformer_forda": (1, 500),
}
TRAINING_MINUTES = 20  # of the faithful recipes together
STATES = ("passed", "failed", "cut off", "not run")


def judge(stage: str, folder: Path) -> tuple[bool, str, dict]:
    """Return (whether the files in a job's folder say what they should, the finding in a line, its figures).

    Raises:
        OSError, LookupError, TypeError, ValueError: for files that are missing, or not what the job should write.
    """
    if stage == "precisions":
        with open(folder / "history.csv", newline="") as file:
            (row,) = csv.DictReader(file)
        losses = {name: float(row[name]) for name in ("loss", "val_loss")}
        finding = ", ".join(f"{name} {value:.4g}" for name, value in losses.items())
        skipped = f", {row['skipped_steps']} steps skipped" if "skipped_steps" in row else ""
        return _finite(losses), finding + skipped, losses
    result = json.loads((folder / "result.json").read_text())
    if stage == "device":
        wrong = [f"{name} off by {error:.1e}" for name, (error, limit) in result["errors"].items() if not error < limit]
        finding = f"TensorFlow {result['tensorflow']}, {', '.join(result['gpus']) or 'no GPU'}, bfloat16 product at "
        finding += f"{result['tflops']:.3g} TFLOP/s, {len(result['errors'])} results beside float64"
        return not wrong, "; ".join([finding, *wrong]), result
    if stage == "parity":
        wrong = [f"{found['name']} {found['dtype']}" for found in result if not found["ok"]]
        errors = {name: _largest(found[name] for found in result) for name in ("values", "gradients", "steps")}
        finding = f"{len(result) - len(wrong)} of {len(result)} certificates hold; largest errors: "
        finding += ", ".join(f"{name} {'-' if error is None else f'{error:.1e}'}" for name, error in errors.items())
        return bool(result) and not wrong, "; FAILED: ".join([finding, ", ".join(wrong)][: 1 + bool(wrong)]), errors
    if stage == "train":
        last, best = result["last"], result["best"]
        finding = f"{result['epochs']} epochs, val_accuracy {last['val_accuracy']:.4f}, best {best['val_accuracy']:.4f}"
        finding += "".join(f", test {name} {value:.4f}" for name, value in result.get("test", {}).items())
        return _finite({"loss": last["loss"], "val_loss": last["val_loss"]}), f"{finding}; {result['data']}", result
    if "kernels" in folder.name:
        timed = [kernel["us"] for kernel in result if kernel["us"]]
        finding = f"{len(result)} kernels, {len(timed)} of them timed, {sum(timed) / 1000:.3g} ms together"
        return bool(timed), finding, {"kernels": len(result), "ms": sum(timed) / 1000}
    steps = {entry["variant"]: entry["ours_ms"] for entry in result}
    finding = ", ".join(f"{variant} {ms:.3g} ms" for variant, ms in steps.items())
    return bool(steps) and _finite(steps), finding, {"recipe": result[0]["recipe"], "entries": result}


def _finite(values: dict[str, float]) -> bool:
    return all(map(math.isfinite, values.values()))


def _largest(errors: Iterable[float | None]) -> float | None:
    return max((error for error in errors if error is not None), default=None)


def summarize(records: list[dict]) -> dict:
    """Return what report.json holds: the stages with their counts, the figures beside the targets, the jobs.

    Targets are for a GPU and full sizes; that of the trainings is for all faithful recipes together.
    """
    stages = {}
    for record in records:
        counts = stages.setdefault(record["stage"], dict.fromkeys(STATES, 0))
        counts[record["state"]] += 1
    right = [record for record in records if record["state"] == "passed"]
    on_gpu = any(record["figures"].get("gpus") for record in right)
    targets = []
    for record in right:
        for entry in record["figures"].get("entries", ()) if record["stage"] == "time" else ():
            target, published = TARGETS.get(entry["recipe"], (None, None))
            target = target if on_gpu and not record["tiny"] else None
            what = f"{entry['recipe']}, {entry['variant']}, batch {entry['batch_size']}"
            targets.append(_figure(what, "ms a step", entry["ours_ms"], target, published))
    trained = {record["job"]: record for record in right if record["stage"] == "train" and record["job"] in FAITHFUL}
    if trained:
        minutes = sum(max(record["seconds"], record["figures"]["seconds"]) for record in trained.values()) / 60
        whole = set(FAITHFUL) <= trained.keys() and on_gpu and not any(record["tiny"] for record in trained.values())
        what = f"training {len(trained)} of {len(FAITHFUL)} faithful recipes"
        targets.append(_figure(what, "minutes", minutes, TRAINING_MINUTES if whole else None, None))
    passed = bool(records) and len(right) == len(records)
    return {"passed": passed, "stages": stages, "targets": targets, "jobs": records}


def _figure(what: str, unit: str, measured: float, target: float | None, published: float | None) -> dict:
    met = None if target is None else measured <= target
    return {"what": what, "unit": unit, "measured": measured, "target": target, "published": published, "met": met}


def markdown(report: dict) -> str:
    """Return the report as tables of Markdown, what did not pass first."""
    lines = ["# GPU check", "", f"| stage | {' | '.join(STATES)} | |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    for stage in STAGES[:-1]:
        counts = report["stages"].get(stage)
        if counts is None:
            lines.append(f"| {stage} | | | | | nothing recorded |")
        else:
            verdict = "passed" if counts["passed"] == sum(counts.values()) else "FAILED"
            lines.append(f"| {stage} | {' | '.join(map(str, counts.values()))} | {verdict} |")
    if report["targets"]:
        lines += ["", "| figure | measured | target | published | |", "| --- | ---: | ---: | ---: | --- |"]
    for row in report["targets"]:
        cells = [f"{row['measured']:.3g} {row['unit']}", *(_cell(row[name]) for name in ("target", "published"))]
        lines.append(
            f"| {row['what']} | {' | '.join(cells)} | {({True: 'met', False: 'missed'}).get(row['met'], '')} |"
        )
    lines += ["", "| job | state | s | finished | finding |", "| --- | --- | ---: | --- | --- |"]
    for record in sorted(report["jobs"], key=lambda record: record["state"] == "passed"):
        cells = [f"{record['stage']}/{record['job']}", record["state"], f"{record['seconds']:.0f}", record["finished"]]
        lines.append(f"| {' | '.join(cells)} | {record['finding'].replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
