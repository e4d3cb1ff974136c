"""A regressor over sequences: one LSTM layer, read out at its last output.

One layer, one direction, sequences of one length; nothing is kept between sequences.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from jaxexp.errors import StudyError
from jaxexp.models.flax_modules import functional
from jaxexp.models.initializers import parameter_dtype, uniform_symmetric
from jaxexp.models.model import Model


def lstm_regressor(
    *,
    hidden: int = 32,
    outputs: int = 1,
    output_activation: Callable[[jax.Array], jax.Array] = jax.nn.elu,
    forget_bias: float = 1.0,
    output_stddev: float = 1.0,
    output_bias: float = 0.1,
) -> Model:
    """Returns the model ``output_activation(h_T W + b)``, where h_T is the last output of an LSTM.

    With input x_t and gates i, f, g, o the LSTM is ``c_t = sigmoid(f_t) c_{t-1} + sigmoid(i_t) tanh(g_t)``,
    ``h_t = sigmoid(o_t) tanh(c_t)``, each of the four being ``x_t K_x + h_{t-1} K_h + bias``, from h_0 = c_0 = 0. The
    defaults are those of TensorFlow 1's `LSTMCell` under a dense layer:

    - the LSTM's kernels are drawn by Glorot's uniform rule for the *one* matrix ``[features + hidden, 4 hidden]``
      that the eight make up together: U(-a, a) with a^2 = 6 / (features + 5 hidden), smaller than gate by gate;
    - the LSTM's biases start at 0, and the constant `forget_bias` is added in the forget gate, so that the cell
      remembers from the start while a measure of how far the parameters moved still starts from the kernels;
    - W starts from a normal distribution cut off at two standard deviations, b at `output_bias`.

    The parameters are ``{"lstm": {"ii", "if", "ig", "io": {"kernel": [features, hidden]}, "hi", "hf", "hg", "ho":
    {"kernel": [hidden, hidden], "bias": [hidden]}}, "head": {"kernel": [hidden, outputs], "bias": [outputs]}}``,
    with the names of flax's `OptimizedLSTMCell`, in the dtype of the inputs where that is a floating one.

    Args:
        hidden: The number of LSTM units, >= 1.
        outputs: The number of outputs, >= 1.
        output_activation: Applied to the outputs, elementwise; `jax.nn.elu` is bounded below by -1.
        forget_bias: The constant added in the forget gate. It is not among the parameters.
        output_stddev: Standard deviation of the normal distribution that W starts from, before the cut, > 0.
        output_bias: Where b starts.

    Returns:
        A `Model`. Inputs are ``[n, time, features]``; outputs are ``[n, outputs]``.

    Raises:
        StudyError: `hidden` or `outputs` is below 1; or (from ``init`` and ``apply``) the inputs are not three
            dimensional.

    Source: Hochreiter & Schmidhuber (1997), with the forget gate of Gers et al. (2000) and its bias of 1 after
    Jozefowicz et al., "An empirical exploration of recurrent network architectures" (2015); initial kernels of
    Glorot & Bengio (2010).

    Example:
        >>> import jax.numpy as jnp
        >>> regressor = lstm_regressor(hidden=4)
        >>> sequences = jnp.ones((2, 10, 1))
        >>> params = jax.eval_shape(regressor.init, jax.random.key(0), sequences)
        >>> jax.eval_shape(regressor.apply, params, sequences).shape, params["lstm"]["hf"]["kernel"].shape
        ((2, 1), (4, 4))
    """
    if min(hidden, outputs) < 1:
        raise StudyError(
            f"models.lstm_regressor: hidden={hidden} and outputs={outputs} must be at least 1; type "
            "models.lstm_regressor(hidden=32, outputs=1)"
        )
    network = functional(_Regressor(hidden, outputs, output_activation, output_stddev, output_bias))

    def init(key, inputs):
        _check_inputs(inputs)
        # The parameters' shapes do not depend on how many sequences there are, nor on how long they are.
        return network.init(key, inputs[:1, :1])

    def apply(params, inputs):
        _check_inputs(inputs)
        forget = params["lstm"]["hf"]
        shifted = forget | {"bias": forget["bias"] + forget_bias}
        return network.apply(params | {"lstm": params["lstm"] | {"hf": shifted}}, inputs)

    return Model(init, apply)


class _Regressor(nn.Module):
    hidden: int
    outputs: int
    output_activation: Callable[[jax.Array], jax.Array]
    output_stddev: float
    output_bias: float

    @nn.compact
    def __call__(self, inputs):
        dtype, length, features = parameter_dtype(inputs), *inputs.shape[1:]
        kernels = uniform_symmetric((6 / (features + 5 * self.hidden)) ** 0.5)
        cell = nn.OptimizedLSTMCell(
            self.hidden, kernel_init=kernels, recurrent_kernel_init=kernels, param_dtype=dtype, name="lstm"
        )
        # Short sequences are unrolled whole: without, the loop itself takes most of the time of a small cell.
        steps: Any = nn.RNN(cell, unroll=min(length, 16))(inputs)
        head = nn.Dense(
            self.outputs,
            kernel_init=nn.initializers.truncated_normal(self.output_stddev),
            bias_init=nn.initializers.constant(self.output_bias),
            param_dtype=dtype,
            name="head",
        )
        return self.output_activation(head(steps[:, -1]))


def _check_inputs(inputs: jax.Array) -> None:
    if inputs.ndim == 3:
        return
    raise StudyError(
        f"models.lstm_regressor: inputs of shape {list(inputs.shape)} are not [n, time, features]; give sequences of "
        "numbers a last axis of length 1: inputs[..., None]"
    )
