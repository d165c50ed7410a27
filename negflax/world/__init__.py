"""A seeded synthetic short-video platform: the embedded data set and the ground of experiments.

`generate` gives an event log and an item table. `Parameters` names every mechanism,
`draw_population` shows the truth behind the log: tastes, aversions, quality.
"""

from negflax.world.log import generate
from negflax.world.parameters import Parameters
from negflax.world.population import Items, Population, Users, draw_population

__all__ = ["Items", "Parameters", "Population", "Users", "draw_population", "generate"]
