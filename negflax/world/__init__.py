"""A seeded simulation of a short-video platform, for the embedded data set and for experiments.

`generate` returns an event log and an item table. `Parameters` lists every mechanism, and
`NAMED_WORLDS` the settings of them that experiments compare.
`draw_population` returns the ground truth behind the log: tastes, aversions, quality. `Platform` is
an environment for your own agent; `serving` turns the scores of any policy into lists.
"""

from negflax.world.environment import Platform
from negflax.world.log import generate
from negflax.world.named_worlds import NAMED_WORLDS, mechanisms
from negflax.world.parameters import Parameters
from negflax.world.population import Items, Population, Users, draw_population
from negflax.world.serving import Context, Serving, serve_list

__all__ = [
    "NAMED_WORLDS",
    "Context",
    "Items",
    "Parameters",
    "Platform",
    "Population",
    "Serving",
    "Users",
    "draw_population",
    "generate",
    "mechanisms",
    "serve_list",
]
