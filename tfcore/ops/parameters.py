"""Parameters that are broadcast over a batch, with gradients that are summed in float32 at least.

The gradient of a broadcast parameter is a sum over all examples and positions. In a half precision such a sum stops
growing once its terms are below half a digit of it, and float16 ends at 65,504: over 1,024 examples of 65 positions
TensorFlow's own, on CPU and outside of XLA, was 55 % off in float16. Products are summed in float32 inside the hardware
(Micikevicius et al. 2018, section 2.3); these are the sums beside them.

Glossary: x (..., C) of the compute dtype; parameter: of x's dtype, or of the dtype in which it is stored.
"""

import functools
import operator

import tensorflow as tf

from tfcore.context import is_gpu, is_xla
from tfcore.precision import statistics_dtype

_ONES = 8  # rows of ones in a product
_BLOCK, _MOST_BLOCKS = 2**16, 128  # elements of a block (256 KiB in float32); how many operations a sum may become


def add_parameter(x: tf.Tensor, parameter: tf.Tensor | tf.Variable) -> tf.Tensor:
    """x + parameter in x's dtype: (..., C) and anything that broadcasts to it -> (..., C); ∂parameter = Σ ∂y."""

    # Not tf.nn.bias_add: of (256, 32, 32, 32) its gradient takes 2.0 ms, not 2.4, but is 8.0e-6 off instead of 3.3e-6.
    def add(x, parameter):
        return x + tf.cast(parameter, x.dtype), lambda upstream: (upstream, _sum_to(parameter, upstream))

    return _apply(add, x, parameter)


def multiply_parameter(x: tf.Tensor, parameter: tf.Tensor | tf.Variable) -> tf.Tensor:
    """x · parameter in x's dtype: (..., C) and anything that broadcasts to it -> (..., C); ∂parameter = Σ x · ∂y."""

    def multiply(x, parameter):
        factor = tf.cast(parameter, x.dtype)

        def backward(upstream):
            return upstream * factor, _sum_to(parameter, upstream, x)

        return x * factor, backward

    return _apply(multiply, x, parameter)


def broadcast_parameter(parameter: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """The parameter repeated to a shape of as many axes: (..., 1, ..., C) -> (..., B, ..., C); ∂parameter = Σ ∂y."""

    def broadcast(parameter):
        return tf.broadcast_to(parameter, shape), lambda upstream: _sum_to(parameter, upstream)

    if parameter.dtype == statistics_dtype(parameter.dtype):
        return broadcast(parameter)[0]
    return tf.custom_gradient(broadcast)(parameter)


def _apply(function, x, parameter):
    parameter = tf.convert_to_tensor(parameter)
    if x.dtype == statistics_dtype(x.dtype) == parameter.dtype:
        return function(x, parameter)[0]  # wide enough by itself, and free to be fused with what stands before it
    return tf.custom_gradient(function)(x, parameter)


def _sum_to(parameter, *factors):
    """The product of the factors, multiplied and summed over the axes along which the parameter was broadcast."""
    high, rank = statistics_dtype(parameter.dtype), factors[0].shape.rank
    leading = rank - parameter.shape.rank
    stretched = [leading + i for i, size in enumerate(parameter.shape) if size == 1]
    if not leading and not stretched:
        return tf.cast(_product(factors, high), parameter.dtype)
    if stretched:
        total = tf.reduce_sum(_product(factors, high), axis=[*range(leading), *stretched])
    else:
        total = _column_sums(*(tf.reshape(factor, [-1, parameter.shape.num_elements()]) for factor in factors))
    return tf.cast(tf.reshape(total, parameter.shape), parameter.dtype)


def _column_sums(*factors: tf.Tensor) -> tf.Tensor:
    """Σ_n Π factors[n, c], multiplied and summed in float32 at least: (N, C), ... -> (C,).

    A half precision is never cast as a whole, which would write twice the bytes that it reads and read them again. XLA
    takes a product with ones, whose sums are float32's inside the hardware and are not rounded on their way out; one
    row of ones is as slow as a sum, eight are one block of the matrix unit. TensorFlow's own product of bfloat16
    rounds what it returns, so that blocks of rows are cast there, each small enough to stay in a core's cache. For a
    GPU XLA makes one kernel of casts, product and sum. (Seven local blocks of 256 channels, forward and backward: 7,191
    instructions to be compiled, in blocks 132,292.)

    Of (256·32·32, 32) in bfloat16, 2 cores of an AMD EPYC: in graph mode 4.7 ms cast as a whole, 1.6 by blocks (by
    TensorFlow's normalization, which also returns sums in float32, 2.3); under XLA 8.6 ms and 2.9 by ones. Of
    (128·144, 2048) 30 and 13.7 (16 to 21); 90 and 12.
    """
    x, high = factors[0], statistics_dtype(factors[0].dtype)
    if x.dtype == high or (is_xla() and is_gpu()):
        return tf.reduce_sum(_product(factors, high), axis=0)
    if is_xla() and len(factors) == 1 and x.dtype == tf.bfloat16:
        ones = tf.ones([_ONES, tf.shape(x)[0]], x.dtype)
        return tf.linalg.matmul(ones, x, output_type=high)[0]  # (8, N) x (N, C) -> (8, C)
    rows, columns = x.shape
    # A multiple of 64 rows, so that each block starts at an address from which a slice is taken without a copy.
    block = max(_BLOCK // columns, (rows or 0) // _MOST_BLOCKS) // 64 * 64 + 64
    if rows is None or rows <= block:
        return tf.reduce_sum(_product(factors, high), axis=0)
    blocks = ([factor[i : i + block] for factor in factors] for i in range(0, rows, block))
    return tf.add_n([tf.reduce_sum(_product(block, high), axis=0) for block in blocks])


def _product(factors, dtype):
    return functools.reduce(operator.mul, (tf.cast(factor, dtype) for factor in factors))
