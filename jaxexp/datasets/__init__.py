"""The small datasets that the experiments train on: bundled files, and generators with a stated seed.

Every function returns NumPy arrays on the host, the same ones at each call; where random numbers are drawn
they come from NumPy's legacy generator, whose streams are frozen. Nothing is downloaded, cached, shuffled
into minibatches or put on a device.
"""

from jaxexp.datasets._digits import digits as digits
from jaxexp.datasets._records import Points as Points
from jaxexp.datasets._records import Split as Split
from jaxexp.datasets._spiral import SpiralStream as SpiralStream
from jaxexp.datasets._spiral import spiral as spiral
from jaxexp.datasets._spiral import spiral_stream as spiral_stream
