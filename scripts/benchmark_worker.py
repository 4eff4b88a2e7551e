"""One contender of benchmark.py in a process of its own: builds its step, then times it whenever it is asked to.

Reads a line of JSON for each turn, {"seconds": s}, {"flops": true} or {"quit": true}, and answers each with another.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import command_line

Step = Callable[[], None]  # one training step; returns when it is done
Compiled = tuple[Callable, tuple]  # the tf.function behind a step, and its arguments


def main(contender: dict) -> None:
    """Run the contender (the fields of benchmark.Contender) until it is told to quit."""
    command_line.import_tensorflow_quietly()
    from loops import recipes
    from loops.made_up import made_up_dataset

    settings = [command_line.setting(text) for text in contender["settings"]]
    recipe = recipes.get(contender["recipe"]).changed(settings)
    dataset = made_up_dataset(recipe)

    build = {"ours": our_step, "keras": keras_step}[contender["side"]]
    begin = time.perf_counter()
    try:
        step, compiled = build(recipe, dataset, contender["xla"] == "on")
    except ValueError as error:
        answer({"error": str(error)})
        return
    step()  # traces and compiles
    compile_seconds = time.perf_counter() - begin
    step()
    answer({"compile_seconds": compile_seconds, "batch_size": recipe.batch_size})
    for line in sys.stdin:
        request = json.loads(line)
        if "quit" in request:
            answer({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})
            return
        if "flops" in request:
            from tfcore.inspect.compiler import inspect_step

            function, arguments = compiled()
            try:
                totals = inspect_step(function, *arguments).totals
            except ValueError:  # XLA cannot compile it, Keras's augmentation for one: nothing to be counted
                answer({})
            else:
                answer({"gflop": totals.flops / 1e9, "gbytes": totals.bytes / 1e9})
            continue
        count, begin = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - begin < request["seconds"]:
            step()
            count += 1
        answer({"ms": 1000 * (time.perf_counter() - begin) / count})


def our_step(recipe, dataset, xla: bool) -> tuple[Step, Callable[[], Compiled]]:
    """The step of loops/train.py."""
    import tensorflow as tf

    from loops.made_up import made_up_step

    train_step, arguments, learner = made_up_step(recipe, dataset, xla=xla)
    state = {"step": 0}

    def step() -> None:
        train_step(*arguments[:-1], tf.constant(state["step"], tf.int64))
        state["step"] += 1
        learner.metrics.loss.numpy()  # waits for the device

    return step, lambda: (train_step, arguments)


def keras_step(recipe, dataset, xla: bool) -> tuple[Step, Callable[[], Compiled]]:
    """The step of keras.Model.fit for the published model, from a tf.data set of one batch in memory."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import tensorflow as tf

    from tests.catalog.published import published

    batch = dataset.train
    model = published(recipe, dataset.sizes, batch.inputs)
    model.jit_compile = xla
    inputs = batch.inputs.astype("float32") / recipe.pixel_scale if batch.inputs.dtype == "uint8" else batch.inputs
    data = iter(tf.data.Dataset.from_tensors((inputs, batch.labels)).repeat())
    model.make_train_function()

    def step() -> None:
        logs = model.train_function(data)
        float(logs["loss"])  # waits for the device

    def compiled() -> Compiled:
        function = tf.function(lambda x, y: model.train_step((x, y)))
        return function, (tf.constant(inputs), tf.constant(batch.labels))

    return step, compiled


def answer(value: dict) -> None:
    """Write one line for benchmark.py."""
    print(json.dumps(value), flush=True)
