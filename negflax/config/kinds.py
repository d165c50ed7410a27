"""What a single setting may be, written in its type: `rows: Count = 32`, `dropout: Share = 0.1`.

A word to choose from is a `typing.Literal`, or a `OneOf` where other words may be accepted as well;
checks.py holds every setting to its type.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, NamedTuple


class Range(NamedTuple):
    """Numbers from `least` to `most`, below `below`.

    Attributes:
      said: the range in words, for the error.
      least: smallest number.
      most: largest number.
      below: number that is not reached.
    """

    said: str
    least: float = -math.inf
    most: float = math.inf
    below: float = math.inf

    def accepts(self, value: float) -> bool:
        """Whether the number is in the range; NaN never is."""
        return self.least <= value <= self.most and value < self.below


class OneOf:
    """One of some words, or a word that `also` accepts.

    Attributes:
      words: those to choose from.
    """

    def __init__(self, *words: str, also: Callable[[str], bool] = lambda word: False):
        """The words, and a predicate for further ones."""
        self.words, self._also = words, also

    def accepts(self, word: str) -> bool:
        """Whether the setting may be this word."""
        return word in self.words or self._also(word)


Count = Annotated[int, Range("at least 1 is needed", least=1)]
Natural = Annotated[int, Range("a number of at least 0", least=0)]
NotNegative = Annotated[float, Range("a number of at least 0", least=0)]
Positive = Annotated[float, Range("a number above 0", least=math.ulp(0.0))]
Share = Annotated[float, Range("a share from 0 up to, not including, 1", least=0, below=1)]
UpToOne = Annotated[float, Range("a number from 0 to 1", least=0, most=1)]
