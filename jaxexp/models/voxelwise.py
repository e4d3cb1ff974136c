"""A small segmentation net: what is seen around each pixel, plus what is seen in the image as a whole.

It works in any number of spatial dimensions on images of one size. `u_net` is the deeper alternative.
"""

import flax.linen as nn
import jax.numpy as jnp

from jaxexp.errors import StudyError
from jaxexp.models.flax_modules import functional
from jaxexp.models.images import check_images, halve, neighbourhoods
from jaxexp.models.initializers import parameter_dtype
from jaxexp.models.model import Model


def segmenter(num_classes: int, *, num_local: int = 8, num_hidden: int = 32, num_context: int | None = 128) -> Model:
    """Returns a net that gives the logits of each pixel's class from a local and a global view.

    With `conv` of width 3 in each spatial dimension (zeros outside the image) and `pool` the mean over blocks of
    side 2::

        local   = dense_h(relu(conv(image)))                      [n, *spatial, num_hidden]
        context = dense_h(relu(dense_c(flatten(pool(image)))))    [n, num_hidden], the same at each pixel
        logits  = dense(relu(local + context))                    [n, *spatial, num_classes]

    The context is what tells apart classes that look alike close up, as the strokes of different digits do. The
    defaults are the net of question 3 for digits of 28 x 28 (196 pooled pixels -> 128 -> 32, 11 classes);
    ``segmenter(4, num_hidden=16, num_context=None)`` is its net for volumes of 12 x 12 x 12, which has no context.

    The parameters are ``{"local_convolution", "local_dense", "context_hidden", "context_dense", "output"}``, each
    ``{"kernel": [in, out], "bias": [out]}``, started as flax does (LeCun normal, zeros), in the dtype of the images
    where that is a floating one. The convolution's "in" runs over its window, then the channels.

    Args:
        num_classes: The number of classes, background included, >= 2.
        num_local: The number of features of the convolution, >= 1.
        num_hidden: The number of features at each pixel before the output, >= 1.
        num_context: The number of hidden units of the global view, >= 1; None leaves that view out.

    Returns:
        A `Model`. Images are ``[n, *spatial, channels]`` with one or more spatial dimensions; outputs are logits
        ``[n, *spatial, num_classes]``. With a context the images that it is applied to have the size of those it
        was started with, and their sides are even.

    Raises:
        StudyError: A number is out of its range; or (from ``init`` and ``apply``) the images have fewer than three
            dimensions, or a side that is odd where there is a context.

    Example:
        >>> import jax
        >>> net = segmenter(11)
        >>> images = jnp.ones((2, 28, 28, 1))
        >>> params = jax.eval_shape(net.init, jax.random.key(0), images)
        >>> jax.eval_shape(net.apply, params, images).shape, params["context_hidden"]["kernel"].shape
        ((2, 28, 28, 11), (196, 128))
    """
    if num_classes < 2 or min(num_local, num_hidden, 1 if num_context is None else num_context) < 1:
        raise StudyError(
            f"models.segmenter: num_classes={num_classes} must be at least 2 (background is one), and "
            f"num_local={num_local}, num_hidden={num_hidden} and num_context={num_context} at least 1; type "
            "models.segmenter(11), or num_context=None for no global view"
        )
    num_halvings = 0 if num_context is None else 1
    network = functional(_Segmenter(num_classes, num_local, num_hidden, num_context))

    def init(key, inputs):
        check_images("segmenter", inputs, num_halvings, "num_context=None")
        return network.init(key, inputs[:1])

    def apply(params, inputs):
        check_images("segmenter", inputs, num_halvings, "num_context=None")
        return network.apply(params, inputs)

    return Model(init, apply)


class _Segmenter(nn.Module):
    num_classes: int
    num_local: int
    num_hidden: int
    num_context: int | None

    @nn.compact
    def __call__(self, images):
        dtype = parameter_dtype(images)
        near = nn.Dense(self.num_local, param_dtype=dtype, name="local_convolution")(neighbourhoods(images))
        hidden = nn.Dense(self.num_hidden, param_dtype=dtype, name="local_dense")(nn.relu(near))
        if self.num_context is not None:
            pooled = halve(images, jnp.mean).reshape(len(images), -1)
            whole = nn.relu(nn.Dense(self.num_context, param_dtype=dtype, name="context_hidden")(pooled))
            context = nn.Dense(self.num_hidden, param_dtype=dtype, name="context_dense")(whole)
            hidden = hidden + jnp.expand_dims(context, tuple(range(1, images.ndim - 1)))
        return nn.Dense(self.num_classes, param_dtype=dtype, name="output")(nn.relu(hidden))
