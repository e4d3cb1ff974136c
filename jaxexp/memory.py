"""How much memory a group's program will take, before it is compiled in its own tile.

Two compilations in narrower tiles give what is fixed and what each further lane adds: XLA's own figures are linear in
the width. Trains nothing.
"""

from typing import NamedTuple

from jaxexp import engine
from jaxexp import program as programs
from jaxexp.plans import Plan, Tile


class Memory(NamedTuple):
    """Bytes that a program takes while it runs: working set, arguments (the data among them) and results.

    Attributes:
        fixed: Whatever the width: data and what all lanes share.
        each: For each slice of lanes along the tile's longer side.
        total: In the plan's tile.
    """

    fixed: int
    each: int
    total: int


def predicted(plan: Plan, group: int) -> Memory:
    """Returns the memory of a group's program in the plan's tile, from two compilations, a quarter and half as wide.

    Args:
        plan: The plan.
        group: Index of the group.

    Source: `memory_analysis` of a compiled program, https://docs.jax.dev/en/latest/aot.html
    """
    shape = engine.shape_of(plan, group)
    by_seeds = plan.tile.seeds >= plan.tile.trials

    def measured(width: int) -> int:
        tile = Tile(plan.tile.trials, width) if by_seeds else Tile(width, plan.tile.seeds)
        narrow = shape._replace(tile=tile)
        return engine.num_bytes(programs.lower(plan.groups[group], narrow).compile())

    widest = max(plan.tile)
    narrow, wide = max(1, widest // 4), max(2, widest // 2)
    one, two = measured(narrow), measured(wide)
    each = (two - one) // (wide - narrow)
    return Memory(one - narrow * each, each, one + (widest - narrow) * each)
