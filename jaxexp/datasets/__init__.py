"""The small datasets that the experiments train on: bundled files, and generators with a stated seed.

Functions return NumPy arrays on the host, the same ones at each call; where random numbers are drawn they
come from NumPy's legacy generator, whose streams are frozen. The exceptions end in ``_from_key``: pure JAX
functions of a random key, for experiments that draw their data inside `init` or `step`. Nothing here
downloads, caches, shuffles into minibatches or puts data on a device.
"""

from jaxexp.datasets._digits import digits as digits
from jaxexp.datasets._five_points import five_points as five_points
from jaxexp.datasets._idx import read_idx as read_idx
from jaxexp.datasets._mnist import digit_segmentation as digit_segmentation
from jaxexp.datasets._mnist import mnist5000 as mnist5000
from jaxexp.datasets._records import Points as Points
from jaxexp.datasets._records import Sequences as Sequences
from jaxexp.datasets._records import Split as Split
from jaxexp.datasets._recurrence import recurrence as recurrence
from jaxexp.datasets._recurrence import recurrence_from_key as recurrence_from_key
from jaxexp.datasets._spiral import SpiralStream as SpiralStream
from jaxexp.datasets._spiral import spiral as spiral
from jaxexp.datasets._spiral import spiral_from_key as spiral_from_key
from jaxexp.datasets._spiral import spiral_stream as spiral_stream
from jaxexp.datasets._volumes import volumes as volumes
