"""One contender of benchmark.py in a process of its own: builds its steps, then times them whenever it is asked to.

Reads a line of JSON for each turn, {"case": i, "seconds": s}, {"flops": true} or {"quit": true}, and answers each with
another. A recipe is one case; a single operation has many, its sizes.
"""

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from parts import command_line

Step = Callable[[], None]  # one step; returns when it is done
Compiled = tuple[Callable, tuple]  # the tf.function behind a step, and its arguments


def main(contender: dict) -> None:
    """Run the contender (the fields of benchmark.Contender or benchmark_operations.Contender) until told to quit."""
    command_line.import_tensorflow_quietly()
    begin = time.perf_counter()
    try:
        steps, ready, compiled = (operation_steps if "kind" in contender else recipe_steps)(contender)
    except ValueError as error:
        answer({"error": str(error)})
        return
    if ready["xla"] != contender["xla"]:
        answer(ready)
        return
    for step in steps:
        step()  # traces and compiles
    compile_seconds = time.perf_counter() - begin
    for step in steps:
        step()
    answer({"compile_seconds": compile_seconds, **ready})
    for line in sys.stdin:
        request = json.loads(line)
        if "quit" in request:
            answer({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024})
            return
        if compiled is not None and "flops" in request:
            answer(count(compiled))
        else:
            answer(timed(steps[request["case"]], request["seconds"]))


def timed(step: Step, seconds: float) -> dict:
    """Run the step for so many seconds, once at least."""
    count, begin = 0, time.perf_counter()
    while count == 0 or time.perf_counter() - begin < seconds:
        step()
        count += 1
    return {"ms": 1000 * (time.perf_counter() - begin) / count}


def count(compiled: Callable[[], Compiled]) -> dict:
    """Count the arithmetic and the memory traffic of the step as XLA compiles it."""
    from tfcore.inspect.profile.compiler import inspect_step

    function, arguments = compiled()
    try:
        totals = inspect_step(function, *arguments).totals
    except ValueError:  # XLA cannot compile it, Keras's augmentation for one: nothing to be counted
        return {}
    return {"gflop": totals.flops / 1e9, "gbytes": totals.bytes / 1e9}


def recipe_steps(contender: dict) -> tuple[list[Step], dict, Callable[[], Compiled]]:
    """The training step of a recipe: ([step], what the first answer says of it, its tf.function)."""
    from loops import recipes
    from loops.made_up import made_up_dataset

    recipe = recipes.get(contender["recipe"]).changed(map(command_line.setting, contender["settings"]))
    build = {"ours": our_step, "keras": keras_step}[contender["side"]]
    step, compiled, xla = build(recipe, made_up_dataset(recipe), contender["xla"] == "on")
    fields = ("batch_size", "precision", "augmentation")
    about = {field: value for field, value in recipe.to_json().items() if field in fields}
    return [step], {"about": about, "xla": "on" if xla else "off"}, compiled


def our_step(recipe, dataset, xla: bool) -> tuple[Step, Callable[[], Compiled], bool]:
    """The step of loops/train.py."""
    import tensorflow as tf

    from loops.made_up import made_up_step

    train_step, arguments, learner = made_up_step(recipe, dataset, xla=xla)
    state = {"step": 0}

    def step() -> None:
        train_step(*arguments[:-1], tf.constant(state["step"], tf.int64))
        state["step"] += 1
        learner.metrics.loss.numpy()  # waits for the device

    return step, lambda: (train_step, arguments), xla


def keras_step(recipe, dataset, xla: bool) -> tuple[Step, Callable[[], Compiled], bool]:
    """The step of keras.Model.fit for the published model, from a tf.data set of one batch in memory.

    The last value says whether Keras compiles it: asked to, it still does not where a layer says that it cannot.
    """
    import tensorflow as tf

    model = rivals().compiled(recipe, dataset, xla)
    batch = dataset.train
    inputs = batch.inputs.astype("float32") / recipe.pixel_scale if batch.inputs.dtype == "uint8" else batch.inputs
    data = iter(tf.data.Dataset.from_tensors((inputs, batch.labels)).repeat())
    model.make_train_function()

    def step() -> None:
        logs = model.train_function(data)
        float(logs["loss"])  # waits for the device

    def compiled() -> Compiled:
        function = tf.function(lambda x, y: model.train_step((x, y)))
        return function, (tf.constant(inputs), tf.constant(batch.labels))

    return step, compiled, model.jit_compile


def rivals():
    """The Keras side, in the tests' catalog, which is not installed: found beside this script's folder."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    warnings.filterwarnings("ignore", "Model doesn't support `jit_compile=True`")  # the table says it
    from tests.catalog import rivals

    return rivals


def operation_steps(contender: dict) -> tuple[list[Step], dict, None]:
    """The steps of a single operation in all its sizes, and what the first answer says of them."""
    kind, formulation, xla = contender["kind"], contender["formulation"], contender["xla"] == "on"
    keras = rivals() if contender["side"] == "keras" else None
    steps = []
    for case in contender["cases"]:
        layer = our_operation(kind, formulation, case) if keras is None else keras.operation(kind, case)
        forward, weights, compilable = layer
        xla = xla and compilable
        steps.append(operation_step(kind, case, forward, weights, xla))
    return steps, {"xla": "on" if xla else "off"}, None


def our_operation(kind: str, formulation: str, case: dict) -> tuple[Callable, list, bool]:
    """Our layer of that kind as forward(x, step's number), its trained weights, and that XLA can compile it."""
    from tfcore import random
    from tfcore.layers.attention import MultiHeadAttention
    from tfcore.layers.augmentation import RandomAugmentation
    from tfcore.layers.involution import Involution

    key = random.make_key(0)
    if kind == "involution":
        layer = Involution(in_channels=case["channels"], kernel_size=case["kernel"], formulation=formulation, key=key)
        return lambda x, number: layer(x, training=True)[0], layer.trainable_variables, True
    if kind == "attention":
        sizes = {name: case[name] for name in ("width", "heads", "key_dim")}
        layer = MultiHeadAttention(**sizes, formulation=formulation, key=key)
        return lambda x, number: layer(x, training=True), layer.trainable_variables, True
    layer = RandomAugmentation(case["size"], site=0, formulation=formulation)
    return lambda x, number: layer(x, training=True, key=random.fold_in(key, number)), [], True


def operation_step(kind: str, case: dict, forward: Callable, weights: list, xla: bool) -> Step:
    """One training step's share of a layer: the output, and the gradients of its input and weights.

    Augmentation has no gradients: images come before all weights.
    """
    import tensorflow as tf

    shape = {
        "involution": lambda: (case["batch"], case["size"], case["size"], case["channels"]),
        "attention": lambda: (case["batch"], case["length"], case["width"]),
        "resampling": lambda: (case["batch"], case["source"], case["source"], 3),
    }[kind]()
    x, upstream = (tf.random.stateless_normal(shape, seed=(0, i)) for i in range(2))
    state = {"step": 0}

    @tf.function(jit_compile=xla, autograph=False)
    def traced(x: tf.Tensor, upstream: tf.Tensor, number: tf.Tensor) -> tuple:
        if not weights:
            return forward(x, number)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = forward(x, number)
        return y, tape.gradient(y, [x, *weights], output_gradients=upstream)

    run = traced.get_concrete_function(x, upstream, tf.constant(0, tf.int64))

    def step() -> None:
        run(x, upstream, tf.constant(state["step"], tf.int64))
        state["step"] += 1
        tf.test.experimental.sync_devices()

    return step


def answer(value: dict) -> None:
    """Write one line for benchmark.py."""
    print(json.dumps(value), flush=True)
