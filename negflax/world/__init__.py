"""A seeded synthetic short-video platform: the embedded data set and the ground of experiments.

`generate` gives an event log and an item table. `Parameters` names every mechanism,
`draw_population` shows the truth behind the log: tastes, aversions, quality. `Platform` takes an
agent of your own, step by step; `serving` turns any policy's scores into lists.
"""

from negflax.world.environment import Platform
from negflax.world.log import generate
from negflax.world.parameters import Parameters, mechanisms
from negflax.world.population import Items, Population, Users, draw_population
from negflax.world.serving import Context, Serving, serve_list

__all__ = [
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
