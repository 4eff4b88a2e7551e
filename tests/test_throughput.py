"""Where an epoch's seconds go, and how it is written down and read."""

import pytest

import loops.devices.throughput
import loops.learner
import loops.train
from loops.devices.throughput import COLUMNS, Clock, format_row
from loops.train import train
from tests.support.runs import DATASET, new_run
from tfcore.inspect.figures import figures


@pytest.fixture
def clock(monkeypatch):
    """A clock on which seconds pass by `clock.sleep(seconds)` alone."""
    now = [100.0]
    monkeypatch.setattr(loops.devices.throughput.time, "perf_counter", lambda: now[0])
    clock = Clock()

    def sleep(seconds):
        now[0] += seconds

    clock.sleep = sleep
    return clock


def _steps(clock, sizes):
    """Batches that take half a second to come; a step takes 4 seconds at first and then 1."""
    for size in sizes:
        clock.sleep(0.5)
        clock.lap("data")
        clock.sleep(1.0)
        clock.lap_steps(1, size, wait=lambda: clock.sleep(3.0))


def test_compilation_and_data_are_apart_from_computing(clock):
    clock.sleep(50)
    clock.start()
    _steps(clock, [32, 32, 32, 6])
    clock.sleep(2)
    clock.lap("rest")
    row = clock.columns(4, 102)
    assert tuple(row) == COLUMNS
    assert (row["seconds"], row["data_seconds"], row["compute_seconds"], row["compile_seconds"]) == (14, 2, 2, 8)
    assert (row["steps_per_second"], row["examples_per_second"]) == (0.5, 16)  # 2 steps, 64 examples, 4 seconds
    clock.reset()
    _steps(clock, [32, 32, 32, 6])  # all shapes are compiled now
    row = clock.columns(4, 102)
    assert (row["compute_seconds"], row["compile_seconds"]) == (4, 0)
    assert row["examples_per_second"] == 17 and row["peak_memory_mb"] > 100


def test_an_epoch_of_first_steps_has_their_speed(clock):
    _steps(clock, [32, 6])
    row = clock.columns(2, 38)
    assert row["steps_per_second"] == round(2 / 9, 3) and row["compute_seconds"] == 0


def test_a_stopped_epoch_adds_up(clock):
    _steps(clock, [32, 32])
    state = clock.state()
    other = Clock()
    other.sleep = clock.sleep
    other.load_state(state)
    _steps(other, [32, 32])
    assert clock.state() == state  # nothing is shared
    row = other.columns(4, 128)
    assert (row["compute_seconds"], row["compile_seconds"], row["data_seconds"]) == (2, 8, 2)


def test_the_line_of_an_epoch():
    row = {"epoch": 3, "seconds": 20.0, "steps_per_second": 8.0, "examples_per_second": 2048.0}
    row |= {"data_seconds": 1.0, "compute_seconds": 15.0, "compile_seconds": 0.0}
    row |= {"loss": 1.5, "accuracy": 0.25, "val_loss": 1.25, "val_accuracy": 0.5}
    assert format_row(row, 20) == (
        "epoch   3/20    20.0 s   125.0 ms/step    2,048 examples/s  "
        "loss 1.5000  accuracy 0.2500  val_loss 1.2500  val_accuracy 0.5000"
    )
    line = format_row(row | {"data_seconds": 5.0, "compile_seconds": 2.0}, 20)
    assert line.endswith("  compiled in 2.0 s  25% waiting for data")


def test_the_loop_says_where_it_waits(tmp_path, monkeypatch, clock):
    places, step, save = loops.train.train_places, loops.learner.make_train_step, loops.train.checkpoint.save

    def slow(function, seconds):
        def slowly(*arguments, **options):
            clock.sleep(seconds)
            return function(*arguments, **options)

        return slowly

    def slow_places(*arguments, **options):
        for call in places(*arguments, **options):
            clock.sleep(0.25)
            yield call

    monkeypatch.setattr(loops.train, "train_places", slow_places)
    monkeypatch.setattr(loops.learner, "make_train_step", lambda *a, **o: slow(step(*a, **o), 0.5))
    monkeypatch.setattr(loops.train.checkpoint, "save", slow(save, 4.0))
    run = new_run(tmp_path / "run", ("epochs", "2"), ("checkpoint_steps", "1"))
    train(run, DATASET)
    _, row = run.read_history()
    assert (row["data_seconds"], row["compute_seconds"], row["compile_seconds"]) == (0.75, 1.5, 0)
    assert row["seconds"] == 14.25  # with three of the checkpoints; the epoch's own is written after its row
    assert row["steps_per_second"] == pytest.approx(3 / 2.25, abs=0.001)


def test_columns_stand_in_one_order(tmp_path):
    run = new_run(tmp_path / "run", ("epochs", "2"), ("diagnostics", "true"), ("precision", "mixed_float16"))
    train(run, DATASET)
    names = run.history.read_text().splitlines()[0].split(",")
    first = ["epoch", "seconds", "steps_per_second", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy"]
    scale, times = ["loss_scale", "skipped_steps"], list(COLUMNS[2:])
    assert names[: len(first + scale + times)] == first + scale + times
    assert all("/" in name for name in names[len(first + scale + times) :])  # diagnostics: METRIC/PATH
    one, two = run.read_history()
    assert one["compile_seconds"] > 0.1 > two["compile_seconds"] == 0 < two["compute_seconds"] < two["seconds"]


def test_an_old_history_is_read_drawn_and_gone_on_with(tmp_path):
    run = new_run(tmp_path / "run")
    old = "epoch,seconds,steps_per_second,learning_rate,loss,accuracy,val_loss,val_accuracy,old\n"
    run.history.write_text(old + "1,2.5,1.5,0.001,2.3,0.1,2.2,0.2,7\n2,2.5,1.5,0.001,2.1,0.1,2.0,0.2,8\n")
    rows = run.read_history()
    assert rows[1] == {**rows[0], "epoch": 2, "loss": 2.1, "val_loss": 2.0, "old": 8}
    newer = {name: value for name, value in rows[0].items() if name != "old"} | {"epoch": 3, "data_seconds": 0.5}
    run.write_history([*rows, newer])
    assert run.read_history() == [*rows, newer]
    assert run.history.read_text().splitlines()[0].endswith("val_accuracy,data_seconds,old")
    for history in (rows, [*rows, newer]):
        assert figures.curves({"run": history}).axes


@pytest.mark.parametrize("text", ["epoch,loss\n1,low\n", "loss\n1\n", "epoch,loss\n2,1.0\n", "epoch,loss\n1,2,3\n"])
def test_a_damaged_history_is_named(tmp_path, text):
    run = new_run(tmp_path / "run")
    run.history.write_text(text)
    with pytest.raises(ValueError, match=r"history\.csv: damaged"):
        run.read_history()
