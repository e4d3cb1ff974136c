"""A small U-Net: an image coded at coarser and coarser scales, and decoded with what each scale saw.

It works in any number of spatial dimensions. There is no normalisation and no dropout, so that its parameters are
all its state.
"""

import flax.linen as nn
import jax.numpy as jnp

from jaxexp.errors import StudyError
from jaxexp.models.flax_modules import functional
from jaxexp.models.images import check_images, double, halve, neighbourhoods
from jaxexp.models.initializers import parameter_dtype
from jaxexp.models.model import Model


def u_net(num_classes: int, *, num_features: int = 8, num_levels: int = 2) -> Model:
    """Returns a U-Net that gives the logits of each pixel's class.

    A block is two convolutions of width 3 in each spatial dimension (zeros outside the image), each followed by a
    ReLU. Going down, a block is followed by taking the maximum over blocks of side 2, `num_levels` times, and the
    number of features doubles from level to level; going up, pixels are repeated to side 2, joined with what the
    block at that level saw on the way down (level's features last), and put through a block. A dense layer at each
    pixel gives the logits. Where the original crops, zeros are padded, and where it learns the upsampling, pixels
    are repeated, which leaves no chequered pattern.

    The parameters are ``{"down_0_0", "down_0_1", "down_1_0", ..., "bottom_0", "bottom_1", ..., "up_0_1",
    "output"}``, each ``{"kernel": [in, out], "bias": [out]}`` (a convolution's "in" runs over its window, then the
    channels), started by He's normal rule (outputs: LeCun's) and zeros, in the dtype of the images where that is a
    floating one.

    Args:
        num_classes: The number of classes, background included, >= 2.
        num_features: The number of features at the finest level, >= 1.
        num_levels: How often the image is halved, >= 1.

    Returns:
        A `Model`. Images are ``[n, *spatial, channels]`` with one or more spatial dimensions, whose sides are
        multiples of ``2**num_levels``; outputs are logits ``[n, *spatial, num_classes]``. Images of other sizes
        than those it was started with are taken too.

    Raises:
        StudyError: A number is out of its range; or (from ``init`` and ``apply``) the images have fewer than three
            dimensions, or a side that is no multiple of ``2**num_levels``.

    Source: Ronneberger, Fischer & Brox, "U-Net: convolutional networks for biomedical image segmentation" (2015);
    in 3-D Cicek et al. (2016).

    Example:
        >>> import jax
        >>> net = u_net(4, num_features=4)
        >>> volumes = jnp.ones((2, 8, 8, 8, 1))
        >>> params = jax.eval_shape(net.init, jax.random.key(0), volumes)
        >>> jax.eval_shape(net.apply, params, volumes).shape, params["bottom_1"]["kernel"].shape
        ((2, 8, 8, 8, 4), (432, 16))
    """
    if num_classes < 2 or min(num_features, num_levels) < 1:
        raise StudyError(
            f"models.u_net: num_classes={num_classes} must be at least 2 (background is one), and "
            f"num_features={num_features} and num_levels={num_levels} at least 1; type models.u_net(11)"
        )
    network = functional(_UNet(num_classes, num_features, num_levels))

    def init(key, inputs):
        check_images("u_net", inputs, num_levels, "a smaller num_levels")
        return network.init(key, inputs[:1])

    def apply(params, inputs):
        check_images("u_net", inputs, num_levels, "a smaller num_levels")
        return network.apply(params, inputs)

    return Model(init, apply)


class _UNet(nn.Module):
    num_classes: int
    num_features: int
    num_levels: int

    @nn.compact
    def __call__(self, images):
        features, seen = images, []
        for level in range(self.num_levels):
            seen.append(self._block(f"down_{level}", level, features))
            features = halve(seen[-1], jnp.max)
        features = self._block("bottom", self.num_levels, features)
        for level in reversed(range(self.num_levels)):
            joined = jnp.concatenate([double(features), seen[level]], axis=-1)
            features = self._block(f"up_{level}", level, joined)
        return nn.Dense(self.num_classes, param_dtype=parameter_dtype(images), name="output")(features)

    def _block(self, name, level, features):
        for number in range(2):
            convolution = nn.Dense(
                self.num_features * 2**level,
                kernel_init=nn.initializers.he_normal(),
                param_dtype=parameter_dtype(features),
                name=f"{name}_{number}",
            )
            features = nn.relu(convolution(neighbourhoods(features)))
        return features
