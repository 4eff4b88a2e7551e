"""The papers' update rules as pure functions of one parameter's tensors, line by line with the papers' names."""

import math
from collections.abc import Iterable
from typing import Literal

import tensorflow as tf

Decay = Literal["scaled", "unscaled"]


def adam(
    gradient: tf.Tensor,
    m: tf.Tensor,
    v: tf.Tensor,
    *,
    t: tf.Tensor,
    alpha: tf.Tensor,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1 in the faster order of section 2).

        m ← β₁·m + (1 − β₁)·g            v ← β₂·v + (1 − β₂)·g²
        α_t = α · √(1 − β₂ᵗ) / (1 − β₁ᵗ)     Δθ = −α_t · m / (√v + ε̂)

    ε̂ stands outside the bias correction, as in the paper's section 2 and in Keras; algorithm 1's own ε is
    ε̂ / √(1 − β₂ᵗ).

    Args:
        gradient, m, v: tensors of the parameter's shape; m and v start at zero.
        t: () number of this step, from 1.
        alpha: () step size.

    Returns:
        (Δθ, m, v)
    """
    m, v = _moments(gradient, m, v, beta_1=beta_1, beta_2=beta_2)
    bias_1, bias_2 = _bias(beta_1, t, gradient.dtype), _bias(beta_2, t, gradient.dtype)
    alpha_t = alpha * tf.sqrt(bias_2) / bias_1
    return -alpha_t * m / (tf.sqrt(v) + epsilon), m, v


def adamw(
    gradient: tf.Tensor,
    theta: tf.Tensor,
    m: tf.Tensor,
    v: tf.Tensor,
    *,
    t: tf.Tensor,
    alpha: tf.Tensor,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
    decay: Decay,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2): Adam with decoupled weight decay.

        scaled:    Δθ = Δθ_Adam − α·λ·θ       Keras, PyTorch
        unscaled:  Δθ = Δθ_Adam − λ·θ         TensorFlow Addons; the paper's line 12 with η_t = 1

    Both decay the θ from before the step. Adam's part does not depend on θ, so that decaying first and stepping then
    (Keras, TensorFlow Addons) is the same as the paper's sum of the two. The paper multiplies both parts by a schedule
    η_t, but λ·θ never by α; in TensorFlow Addons, and here, an unscaled λ stays what it is when the learning rate
    changes. For the same decay an unscaled λ is α times the scaled one.

    Args:
        gradient, theta, m, v: tensors of the parameter's shape; theta is the parameter before the step.
        t, alpha, beta_1, beta_2, epsilon: as in `adam`.
        weight_decay: λ.

    Returns:
        (Δθ, m, v)
    """
    delta, m, v = adam(gradient, m, v, t=t, alpha=alpha, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon)
    rate = {"scaled": alpha * weight_decay, "unscaled": weight_decay}[decay]
    return delta - rate * theta, m, v


def lamb(
    gradient: tf.Tensor,
    theta: tf.Tensor,
    m: tf.Tensor,
    v: tf.Tensor,
    *,
    t: tf.Tensor,
    alpha: tf.Tensor,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    weight_decay: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """LAMB (You et al. 2020, arXiv 1904.00962, algorithm 2, φ the identity): Adam's direction, the parameter's length.

        m ← β₁·m + (1 − β₁)·g            v ← β₂·v + (1 − β₂)·g²
        m̂ = m / (1 − β₁ᵗ)                v̂ = v / (1 − β₂ᵗ)
        r = m̂ / (√v̂ + ε)                 Δθ = −α · (‖θ‖ / ‖r + λ·θ‖) · (r + λ·θ)

    The trust ratio ‖θ‖ / ‖r + λ·θ‖ is one number for each parameter tensor ("layer" in the paper), and 1 where either
    norm is zero. The decay stands inside the ratio; Keras's Lamb decays outside it, and agrees for λ = 0 alone.

    Args:
        gradient, theta, m, v: tensors of the parameter's shape; theta is the parameter before the step.
        t, alpha: as in `adam`.
        weight_decay: λ.

    Returns:
        (Δθ, m, v)
    """
    m, v = _moments(gradient, m, v, beta_1=beta_1, beta_2=beta_2)
    m_hat = m / _bias(beta_1, t, gradient.dtype)
    v_hat = v / _bias(beta_2, t, gradient.dtype)
    update = m_hat / (tf.sqrt(v_hat) + epsilon) + weight_decay * theta
    theta_norm, update_norm = tf.norm(theta), tf.norm(update)
    ratio = tf.where((theta_norm > 0) & (update_norm > 0), theta_norm / update_norm, tf.ones_like(theta_norm))
    return -alpha * ratio * update, m, v


def sgd(gradient: tf.Tensor, *, alpha: tf.Tensor) -> tf.Tensor:
    """Stochastic gradient descent (Robbins and Monro 1951): Δθ = −α·g.

    Args:
        gradient: g, a tensor of the parameter's shape.
        alpha: () step size.

    Returns:
        Δθ
    """
    return -alpha * gradient


def momentum(delta: tf.Tensor, velocity: tf.Tensor, *, mu: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Classical momentum (Polyak 1964; Sutskever et al. 2013, equations 1 and 2) on top of any rule's own step.

        v ← μ·v + Δ            Δθ = v

    With Δ = −α·g of `sgd` this is Keras's SGD; with Δ of `rmsprop`, Keras's RMSprop and Graves's equation 40. The step
    size stands inside v, so that a smaller one acts with a delay.

    Args:
        delta, velocity: tensors of the parameter's shape; v starts at zero.
        mu: μ, the part of the velocity that stays.

    Returns:
        (Δθ, v)
    """
    velocity = mu * velocity + delta
    return velocity, velocity


def nesterov(delta: tf.Tensor, velocity: tf.Tensor, *, mu: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Nesterov's accelerated gradient (Sutskever et al. 2013, equations 3 and 4) in Keras's form.

        v ← μ·v + Δ            Δθ = μ·v + Δ

    The paper takes the gradient at θ + μ·v. Here θ itself is that point: it already holds the next step's μ·v, and the
    gradient is taken where the parameters are.

    Args:
        delta, velocity, mu: as in `momentum`.

    Returns:
        (Δθ, v)
    """
    velocity = mu * velocity + delta
    return mu * velocity + delta, velocity


def muon(
    gradient: tf.Tensor,
    velocity: tf.Tensor,
    *,
    alpha: tf.Tensor,
    mu: float,
    iterations: int,
    rms: float,
    row_axes: int | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Muon (Jordan et al. 2024; in the size of Liu et al. 2025, arXiv 2502.16982, equation 4): orthogonal momentum.

        v ← μ·v + g            Δθ = −α · rms · √max(n, m) · orthogonalized(g + μ·v)

    Every direction of an n × m matrix moves by the same length. With rms = 0.2 an element moves about as far as Adam's,
    so that its learning rates and decays serve.

    Args:
        gradient, velocity: tensors of the parameter's shape; v starts at zero.
        alpha: () step size.
        iterations: of `orthogonalized`.
        row_axes: how many axes make the matrix's rows, its columns being the rest; all but the last by default, so that
            a convolution's kernel (K, K, n, m) is a matrix (K·K·n, m).

    Returns:
        (Δθ, v)
    """
    velocity = mu * velocity + gradient
    rows = math.prod(gradient.shape[: len(gradient.shape) - 1 if row_axes is None else row_axes])
    matrix = tf.reshape(gradient + mu * velocity, [rows, -1])
    scale = tf.constant(rms * math.sqrt(max(matrix.shape)), gradient.dtype)
    return -alpha * scale * tf.reshape(orthogonalized(matrix, iterations), gradient.shape), velocity


def orthogonalized(matrix: tf.Tensor, iterations: int) -> tf.Tensor:
    """Return about U·Vᵀ of the decomposition U·S·Vᵀ of a matrix (n, m), by Newton and Schulz's iteration (Jordan 2024).

        X ← a·X + (b·A + c·A²)·X        A = X·Xᵀ, X = matrix / (‖matrix‖ + 1e-7), (a, b, c) = (3.4445, −4.775, 2.0315)

    Five of them bring singular values between 0.7 and 1.2, which is near enough; more do not bring them nearer to 1.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = tf.transpose(matrix) if tall else matrix  # A is the smaller of both squares
    x /= tf.norm(x) + 1e-7
    a, b, c = (tf.constant(value, matrix.dtype) for value in (3.4445, -4.7750, 2.0315))
    for _ in range(iterations):
        square = tf.matmul(x, x, transpose_b=True)
        x = a * x + (b * square + c * square @ square) @ x
    return tf.transpose(x) if tall else x


def rmsprop(
    gradient: tf.Tensor, mean_square: tf.Tensor, *, alpha: tf.Tensor, rho: float, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """RMSprop (Tieleman and Hinton 2012, lecture 6e): the step divided by the root of the gradient's mean square.

        n ← ρ·n + (1 − ρ)·g²            Δθ = −α · g / √(n + ε)

    ε stands under the root, as in Keras and in Graves 2013. n starts at zero without a correction, so that the first
    step has the length α / √(1 − ρ) whatever the gradient.

    Args:
        gradient, mean_square: g and n, tensors of the parameter's shape; n starts at zero.
        alpha: () step size.

    Returns:
        (Δθ, n)
    """
    mean_square = _mean(mean_square, tf.square(gradient), rho)
    return -alpha * gradient / tf.sqrt(mean_square + epsilon), mean_square


def rmsprop_centered(
    gradient: tf.Tensor,
    mean_square: tf.Tensor,
    mean: tf.Tensor,
    *,
    alpha: tf.Tensor,
    rho: float,
    epsilon: float,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """RMSprop that divides by the gradient's standard deviation (Graves 2013, arXiv 1308.0850, equations 38 to 40).

        n ← ρ·n + (1 − ρ)·g²        ḡ ← ρ·ḡ + (1 − ρ)·g        Δθ = −α · g / √(max(n − ḡ², 0) + ε)

    n − ḡ² is never negative but for rounding. That alone is the maximum's work: without it, as in Keras, a large
    gradient that stays the same ends in the root of a negative number.

    Args:
        gradient, mean_square, mean: g, n and ḡ, tensors of the parameter's shape; n and ḡ start at zero.
        alpha: () step size.

    Returns:
        (Δθ, n, ḡ)
    """
    mean_square, mean = _mean(mean_square, tf.square(gradient), rho), _mean(mean, gradient, rho)
    variance = tf.maximum(mean_square - tf.square(mean), 0.0)
    return -alpha * gradient / tf.sqrt(variance + epsilon), mean_square, mean


def clip_by_global_norm(gradients: dict[str, tf.Tensor], clip_norm: float) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Shorten all gradients together to the length `clip_norm`, if they are longer (Pascanu et al. 2013, section 3.2).

        N = √(Σ ‖g‖²)        g ← g · clip_norm / max(N, clip_norm)

    Zero gradients (N = 0) stay zero. Where N is not finite every gradient becomes NaN, as in Keras and in
    tf.clip_by_global_norm: an infinite gradient must not turn into a step of zero that nobody sees. That includes
    finite gradients whose squares overflow (N above 1.8e19 in float32).

    Args:
        gradients: by parameter name, of any shapes and floating-point dtypes; each keeps its own.
        clip_norm: greatest length, positive.

    Returns:
        (clipped gradients by name, N () before clipping, in float32 or, if a gradient has it, float64)
    """
    dtype = widest_dtype(gradients.values())
    squares = [tf.reduce_sum(tf.square(tf.cast(gradient, dtype))) for gradient in gradients.values()]
    norm = tf.sqrt(tf.add_n(squares))
    scale = tf.where(tf.math.is_finite(norm), clip_norm / tf.maximum(norm, clip_norm), float("nan"))
    return {name: gradient * tf.cast(scale, gradient.dtype) for name, gradient in gradients.items()}, norm


def widest_dtype(tensors: Iterable[tf.Tensor | tf.Variable]) -> tf.DType:
    """The dtype for numbers that all the tensors share: float64 if one of them has it, else float32."""
    return tf.float64 if any(tensor.dtype == tf.float64 for tensor in tensors) else tf.float32


def _moments(
    gradient: tf.Tensor, m: tf.Tensor, v: tf.Tensor, *, beta_1: float, beta_2: float
) -> tuple[tf.Tensor, tf.Tensor]:
    """The running means of g and g²."""
    return _mean(m, gradient, beta_1), _mean(v, tf.square(gradient), beta_2)


def _mean(mean: tf.Tensor, value: tf.Tensor, beta: float) -> tf.Tensor:
    """The running mean β·m + (1 − β)·x, written so that it needs one product."""
    return mean + (1.0 - beta) * (value - mean)


def _bias(beta: float, t: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """1 − βᵗ, the part that a running mean from zero has seen after t steps."""
    # A constant of g's own dtype: tf.pow and tf.cast would round a Python number to float32 first.
    return 1.0 - tf.pow(tf.constant(beta, dtype), tf.cast(t, dtype))
