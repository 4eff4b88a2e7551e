"""Prove that TensorFlow computes rightly on this machine's first GPU: products, a convolution, a compiled function.

The error of each is relative to the largest of the same numbers in float64, computed by NumPy or on the CPU, of inputs
that bfloat16 holds exactly. Limits: a bfloat16 keeps 8 bits and is summed in float32; float32, with TF32 off, must be
nearer than TF32 would be. Exit code 1 if one is exceeded.
"""

import time
from collections.abc import Callable

from parts import command_line

EXAMPLES = """\
  python scripts/gpu_device.py
  python scripts/gpu_device.py --cpu --json device.json      without a GPU: the same on the CPU
"""


def parser() -> command_line.Parser:
    parser = command_line.Parser(__doc__, EXAMPLES)
    parser.add_argument("--cpu", action="store_true", help="without a GPU, compute on the CPU")
    return parser


def main(arguments) -> int:
    import numpy as np
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus and not arguments.cpu:
        raise ValueError("TensorFlow finds no GPU: TF_CPP_MIN_LOG_LEVEL=0 shows what it cannot load; or --cpu")
    tf.config.experimental.enable_tensor_float_32_execution(False)
    device, rng, errors = f"{'GPU' if gpus else 'CPU'}:0", np.random.default_rng(0), {}

    def random(*shape: int) -> np.ndarray:
        return tf.cast(tf.cast(rng.standard_normal(shape), tf.bfloat16), tf.float64).numpy()

    def compare(name: str, ours: tf.Tensor, exact: np.ndarray, limit: float) -> None:
        if device not in ours.device:
            raise ValueError(f"{name} was computed on {ours.device}, not on {device}")
        exact = np.asarray(exact)
        errors[name] = (float(np.abs(tf.cast(ours, tf.float64) - exact).max() / np.abs(exact).max()), limit)

    size = 4096 if gpus else 512
    a, b = random(size, size), random(size, size)
    with tf.device(device):
        factors = tf.constant(a, tf.bfloat16), tf.constant(b, tf.bfloat16)
        compare("bfloat16 product", tf.matmul(*factors), a @ b, 2.0**-8)
        seconds = min(_seconds(lambda: tf.matmul(*factors)) for _ in range(9))

    image, kernel, weights = random(7, 29, 31, 16), random(3, 3, 16, 32), random(7, 29, 31, 32)

    def convolution(dtype: tf.DType, where: str) -> dict[str, tf.Tensor]:
        with tf.device(where):
            x, w = tf.constant(image, dtype), tf.constant(kernel, dtype)
            with tf.GradientTape() as tape:
                tape.watch((x, w))
                y = tf.nn.conv2d(x, w, 1, "SAME")  # (7, 29, 31, 32)
            dx, dw = tape.gradient(y, (x, w), output_gradients=tf.constant(weights, dtype))
        return {"forward": y, "gradient of the image": dx, "gradient of the kernel": dw}

    exact = convolution(tf.float64, "CPU:0")
    for dtype, limit in ((tf.float32, 1e-4), (tf.bfloat16, 2.0**-7)):
        for name, ours in convolution(dtype, device).items():
            compare(f"{dtype.name} convolution, {name}", ours, exact[name], limit)

    compiled = tf.function(lambda x, y: tf.nn.softmax(tf.tanh(x @ y / 16)), jit_compile=True, autograph=False)
    a, b = random(257, 263), random(263, 269)
    e = np.exp(np.tanh(a @ b / 16))
    with tf.device(device):
        ours = compiled(tf.constant(a, tf.float32), tf.constant(b, tf.float32))
    compare("float32 compiled by XLA", ours, e / e.sum(-1, keepdims=True), 1e-4)

    names = [tf.config.experimental.get_device_details(gpu).get("device_name", "unknown") for gpu in gpus]
    tflops = 2e-12 * size**3 / seconds
    print(f"TensorFlow {tf.__version__} on {', '.join(names) or 'the CPU'}, bfloat16 products at {tflops:.3g} TFLOP/s")
    for name, (error, limit) in errors.items():
        print(f"{name:45}{error:10.1e} of {limit:.1e}{'' if error < limit else '  FAILED'}")
    command_line.write_json(
        arguments.json, {"tensorflow": tf.__version__, "gpus": names, "tflops": tflops, "errors": errors}
    )
    return 0 if all(error < limit for error, limit in errors.values()) else 1


def _seconds(work: Callable[[], object]) -> float:
    import tensorflow as tf

    begin = time.perf_counter()
    work()
    tf.test.experimental.sync_devices()
    return time.perf_counter() - begin


if __name__ == "__main__":
    command_line.run(main, parser().parse_args())
