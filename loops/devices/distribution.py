"""Several devices, which divide each batch: those of one machine, or those of several workers that TF_CONFIG names.

Every replica has all variables and computes its share of the batch; loss, gradients and metrics are summed over the
replicas, so that each makes the same update. Workers are processes that run the same command, each with its own index:

    TF_CONFIG='{"cluster": {"worker": ["host-a:5000", "host-b:5000"]}, "task": {"type": "worker", "index": 0}}'

Worker 0 is the chief: it alone prints and writes.
"""

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from loops.recipes.recipe import Recipe
from loops.run.signals import STOPPING
from tfcore.context import Share, part_of_mean, share_of_batch

SUM = tf.distribute.ReduceOp.SUM
# What TensorFlow raises, by the moment, where another worker has gone.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnknownError,
)


class Devices:
    """What a training asks of the place where it runs; this one is a process with one device."""

    replicas = workers = 1
    is_chief = True

    def scope(self) -> contextlib.AbstractContextManager:
        """Return the context in which a training's variables are made."""
        return contextlib.nullcontext()

    def place(self, inputs: np.ndarray) -> tf.Tensor:
        """Hand a batch's inputs (B, ...) to the devices."""
        return tf.constant(inputs)

    def step(
        self,
        compute: Callable,
        update: Callable,
        check: Callable[..., None],
        *,
        moved: Mapping[str, tf.Variable],
        xla: bool,
    ) -> Callable:
        """Return step(inputs, labels, ...) -> update(compute(inputs, labels, ...)), compiled.

        compute(inputs, labels, ...): a nest of tensors. check(inputs, labels, ...) is called when the step is traced.
        moved: the variables that compute changes.

        Several devices compute, each, with its share of the inputs and labels, and see their `tfcore.context.Share`;
        they update by the sum, and the moved variables become the mean over the shares.
        """

        @tf.function(jit_compile=xla, autograph=False)
        def step(inputs, labels, *others):
            check(inputs, labels, *others)
            return update(compute(inputs, labels, *others))

        return step

    def sum(self, values: list[float]) -> list[float]:
        """Add up numbers over the workers; returns when all of them have come to this place."""
        return values

    def wait(self) -> None:
        """Return when all workers have come to this place."""
        self.sum([0.0])

    def agree(self, **values: int) -> None:
        """Refuse to go on unless all workers have the same numbers, below 2^53, under these names.

        Raises:
            ValueError: naming the worker and what differs.
        """

    def asked(self, own: int | None) -> int | None:
        """Return the signal by which the training is to stop now, given that of this process; the same on all workers.

        To be called after each step.
        """
        return own

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Turn the errors by which a lost worker shows itself into one that says so.

        Raises:
            ConnectionError: if another worker has gone.
        """
        yield


ONE_DEVICE = Devices()


class MirroredDevices(Devices):
    """Several replicas: the devices of this process, and of the other workers if there are any.

    Args:
        strategy: TensorFlow's engine, of which variables, the summing over devices and the placing are used.
        workers: processes, of which this is number `index`.
        synchronized: batch norm's statistics are those of the whole batch.
    """

    def __init__(self, strategy: tf.distribute.Strategy, *, workers: int = 1, index: int = 0, synchronized: bool):
        self._strategy, self._synchronized = strategy, synchronized
        self.replicas, self.workers, self.is_chief = strategy.num_replicas_in_sync, workers, index == 0
        self._index = index
        self._forget()

    def _forget(self) -> None:
        # The signals of this process, for the next step to carry, and of all, from the last step and the one before.
        self._own = self._last = self._before = tf.zeros([len(STOPPING)], tf.float64)

    def scope(self) -> contextlib.AbstractContextManager:
        return self._strategy.scope()

    def place(self, inputs: np.ndarray) -> tf.distribute.DistributedValues:
        """Hand each device its share of a batch's inputs (B, ...).

        Raises:
            ValueError: for fewer examples than replicas.
        """

        def share(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
            start, size = self._range(context.replica_id_in_sync_group, len(inputs))
            return tf.constant(inputs[start : start + size])

        return self._strategy.experimental_distribute_values_from_function(share)

    def step(
        self,
        compute: Callable,
        update: Callable,
        check: Callable[..., None],
        *,
        moved: Mapping[str, tf.Variable],
        xla: bool,
    ) -> Callable:
        if self._synchronized:
            moved = {}  # all replicas have moved their copies alike
        # XLA compiles both parts, but not the sum between them: on CPUs it cannot.
        compiled = (
            functools.partial(tf.function, jit_compile=True, autograph=False) if xla else lambda function: function
        )

        @tf.function(autograph=False)
        def divided(own, inputs, labels, *others):
            check(*self._strategy.experimental_local_results(inputs), labels, *others)

            def on_replica(inputs):
                context = tf.distribute.get_replica_context()
                total = labels.shape[0]
                start, size = self._range(int(tf.get_static_value(context.replica_id_in_sync_group)), total)
                add = functools.partial(context.all_reduce, SUM)
                with share_of_batch(Share(start, size, total, add if self._synchronized else None)):
                    part = compiled(compute)(inputs, labels[start : start + size], *others)
                    own_moved = {path: part_of_mean(variable) for path, variable in moved.items()}
                # identity: one of each replica's own
                part, mean, asked = _sum_by_dtype(add, (part, own_moved, tf.identity(own)))
                for path, value in mean.items():
                    moved[path].assign(value)
                return compiled(update)(part), asked

            result = self._strategy.run(on_replica, (inputs,))
            return tf.nest.map_structure(lambda value: self._strategy.experimental_local_results(value)[0], result)

        def step(*batch):
            self._before = self._last
            result, self._last = divided(self._own, *batch)
            return result

        return step

    def sum(self, values: list[float]) -> list[float]:
        if self.workers == 1:
            return values
        own = self._strategy.experimental_distribute_values_from_function(lambda _: tf.constant(values, tf.float64))
        local = self.replicas // self.workers
        return [float(value) / local for value in self._strategy.reduce(SUM, own, axis=None).numpy()]

    def agree(self, **values: int) -> None:
        table = np.zeros((self.workers, len(values)))
        table[self._index] = list(values.values())
        table = np.reshape(self.sum(table.ravel().tolist()), table.shape)
        for index, row in enumerate(table):
            for name, own, chief in zip(values, row, table[0], strict=True):
                if own != chief:
                    raise ValueError(
                        f"worker {index} differs from worker 0 in its {name}: start all workers by the same command "
                        "on the same data, and with --resume on one run folder, in a file system that all of them share"
                    )

    def asked(self, own: int | None) -> int | None:
        if self.workers == 1:
            return own
        self._own = tf.constant([own == number for number in STOPPING], tf.float64)
        # Of the step before the last one, for whose sum a GPU need not be waited for.
        number = next((number for number, count in zip(STOPPING, self._before.numpy(), strict=True) if count), None)
        if number is not None:
            self._forget()
        return number

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        try:
            yield
        except LOST as error:
            if self.workers == 1:
                raise
            # A graph's error begins with where the operation was made; this line says what became of it.
            lines = [line for line in error.message.splitlines() if "aborted by" in line] or [error.message]
            raise ConnectionError(
                f"worker {self._index} has lost another worker: see what that one says, then start all of them again "
                "with --resume, which goes on from the last checkpoint. TensorFlow says: "
                f"{type(error).__name__}, {lines[0][:300]}"
            ) from error

    def _range(self, replica: int, total: int) -> tuple[int, int]:
        """The (start, size) of a replica's share; sizes differ by one at most, the larger ones come first."""
        if total < self.replicas:
            raise ValueError(
                f"a batch of {total} cannot be divided among {self.replicas} replicas: choose another size"
            )
        size, larger = divmod(total, self.replicas)
        return replica * size + min(replica, larger), size + (replica < larger)


def workers() -> tuple[int, int]:
    """Return (number of workers, index of this one) as the environment's TF_CONFIG says; (1, 0) without it.

    Raises:
        ValueError: for a TF_CONFIG that cannot be used.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return 1, 0
    example = '{"cluster": {"worker": ["host-a:5000", "host-b:5000"]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(text)
        ((kind, addresses),) = config["cluster"].items()
        task, index = config["task"], config["task"]["index"]
        if kind != "worker" or task["type"] != kind:
            raise ValueError("all tasks must be of the type worker")
        if not isinstance(addresses, list) or not all(":" in address for address in addresses):
            raise ValueError("worker must be a list of host:port")
        if not isinstance(index, int) or not 0 <= index < len(addresses):
            raise ValueError(f"the task's index must be 0 .. {len(addresses) - 1}, got {index!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"TF_CONFIG cannot be used ({error}): unset it, or set it as in {example}") from error
    return len(addresses), index


def start(recipe: Recipe) -> Devices:
    """Take as many devices of this machine as the recipe says, and find the other workers if TF_CONFIG names any.

    GPUs; on a machine without them logical CPU devices, which share its cores: for tests. To be called before
    TensorFlow's first operation.

    Raises:
        ValueError: for a TF_CONFIG that cannot be used or has not the recipe's workers, for more devices than there
            are, for an address that is in use.
    """
    devices, synchronized = recipe.devices, recipe.sync_batch_norm
    count, index = workers()
    if recipe.workers != count:
        raise ValueError(f"workers is {recipe.workers}, but TF_CONFIG names {count}: it says how many there are")
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and len(gpus) < devices:
        raise ValueError(f"devices is {devices}, but this machine has {len(gpus)} GPUs: ask for at most as many")
    if count == 1:
        if devices == 1:
            return ONE_DEVICE
        if not gpus:
            (cpu,) = tf.config.list_physical_devices("CPU")
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
        names = [f"{'GPU' if gpus else 'CPU'}:{i}" for i in range(devices)]
        reduction = None if gpus else tf.distribute.ReductionToOneDevice()
        strategy = tf.distribute.MirroredStrategy(names, cross_device_ops=reduction)
        return MirroredDevices(strategy, synchronized=synchronized)
    if not gpus and devices > 1:
        raise ValueError(f"devices is {devices}, but a worker without GPUs is one device: start more workers instead")
    tf.config.set_visible_devices(gpus[:devices], "GPU")
    kinds = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(implementation=kinds.AUTO if gpus else kinds.RING)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    except tf.errors.OpError as error:
        raise ValueError(f"worker {index} of TF_CONFIG cannot be started: {error.message}") from error
    return MirroredDevices(strategy, workers=count, index=index, synchronized=synchronized)


def _sum_by_dtype(add: Callable, nest):
    """Sum a nest over the replicas, all tensors of a dtype at once, since one sum holds but one dtype."""
    tensors = [tf.convert_to_tensor(tensor) for tensor in tf.nest.flatten(nest)]
    for dtype in {tensor.dtype: None for tensor in tensors}:
        places = [place for place, tensor in enumerate(tensors) if tensor.dtype == dtype]
        for place, tensor in zip(places, add([tensors[place] for place in places]), strict=True):
            tensors[place] = tensor
    return tf.nest.pack_sequence_as(nest, tensors)
