"""Optax transforms that optax lacks; everything else comes from optax itself."""

from jaxexp.optimizers.evolution import centered_ranks as centered_ranks
from jaxexp.optimizers.evolution import evolution_strategy_gradient as evolution_strategy_gradient
from jaxexp.optimizers.evolution import standard_scores as standard_scores
from jaxexp.optimizers.freeze import freeze as freeze
from jaxexp.optimizers.velocity import FIRST_GRADIENT as FIRST_GRADIENT
from jaxexp.optimizers.velocity import FirstGradientState as FirstGradientState
from jaxexp.optimizers.velocity import InitialVelocity as InitialVelocity
from jaxexp.optimizers.velocity import trace as trace
from jaxexp.optimizers.velocity import with_initial_velocity as with_initial_velocity
