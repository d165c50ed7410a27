"""MovieLens: ratings from half a star to five (Harper and Konstan, 2015)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from negflax.data.builders.base import LogBuilder, Part, variants
from negflax.data.builders.originals import Archive
from negflax.data.builders.text import FLOAT, INT, TEXT, read_text
from negflax.data.cells import DataError

_RATINGS = {"100k": "u.data", "1m": "ratings.dat"}
_MOVIES = {"100k": "u.item", "1m": "movies.dat"}
_SIZES = ("100k", "1m", "20m", "25m", "32m", "latest", "latest-small")
_LOW_RATING = 2.0  # and below: a dislike, as in published work on explicit negatives
_GENRES = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|"
    "Film-Noir|Horror|Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
).split("|")  # u.genre: the order of the last 19 columns of u.item

_EVENTS = pa.schema(
    [
        *[(name, pa.int64()) for name in ("user_id", "item_id", "timestamp_ms")],
        ("rating", pa.float64()),
        ("dislike", pa.bool_()),
    ]
)
_ITEMS = pa.schema(
    [("item_id", pa.int64()), ("title", pa.string()), ("cluster_ids", pa.list_(pa.string()))]
)


def _archive(size: str) -> Archive:
    return Archive(
        f"ml-{size}.zip", f"https://files.grouplens.org/datasets/movielens/ml-{size}.zip"
    )


class MovieLens(LogBuilder):
    """One split, `ratings`; genres are the clusters, and a rating of 2 or less is a dislike.

    The name has an underscore (`movie_lens`), since tensorflow-datasets has a `movielens`.
    """

    DESCRIPTION = (
        "Ratings of movies, with times; genres as clusters. An example is a block of ratings."
    )
    CITATION = """@article{harper2015movielens,
  title={The {MovieLens} Datasets: History and Context},
  author={Harper, F. Maxwell and Konstan, Joseph A.},
  journal={ACM Transactions on Interactive Intelligent Systems}, volume={5}, number={4},
  year={2015}, doi={10.1145/2827872}}"""
    LICENSE = "Research use; not to be redistributed without permission: see the README inside."
    HOMEPAGE = "https://grouplens.org/datasets/movielens/"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "ml-100k.zip, ml-1m.zip, … are at https://grouplens.org/datasets/movielens/; put the "
        "archive, or its files, into manual_dir."
    )
    TESTED = "fixtures, and real rows written back into the original format"
    BUILDER_CONFIGS: ClassVar[list] = variants(
        _SIZES,
        lambda size: (f"ml-{size}/{_RATINGS.get(size, 'ratings.csv')}",),
        _archive,
        lambda size: (f"ml-{size}/{_MOVIES.get(size, 'movies.csv')}",),
    )

    def schema(self) -> pa.Schema:
        """See the base class."""
        return _ITEMS if self.builder_config.items else _EVENTS

    def tables(self, files: dict[str, Path]) -> dict[str, Iterator[Part]]:
        """See the base class."""
        (path,) = files.values()
        if self.builder_config.items:
            readers = {"u.item": _u_item, "movies.dat": _movies_dat}
            return {"items": readers.get(path.name, _movies_csv)(path)}
        return {"ratings": _ratings(path)}


def _ratings(path: Path) -> Iterator[Part]:
    names = ("userId", "movieId", "rating", "timestamp")
    columns = dict(zip(names, (INT, INT, FLOAT, INT), strict=True))
    if path.name == "u.data":
        tables = read_text(path, columns, "\t", names)
    elif path.name == "ratings.dat":  # user::movie::rating::time: an empty column at each ::
        between = ("userId", "1", "movieId", "2", "rating", "3", "timestamp")
        tables = read_text(path, columns, ":", between, "latin-1", quotes=False)
    else:
        tables = read_text(path, columns)
    for log in tables:
        events = pa.table(
            {
                "user_id": log["userId"],
                "item_id": log["movieId"],
                "timestamp_ms": pc.multiply(log["timestamp"], 1000),
                "rating": log["rating"],
                "dislike": pc.less_equal(log["rating"], _LOW_RATING),
            }
        )
        yield path, events


def _u_item(path: Path) -> Iterator[Part]:
    names = ("item_id", "title", "release", "video_release", "url", *_GENRES)
    columns = {"item_id": INT, "title": TEXT, **dict.fromkeys(_GENRES, INT)}
    for movies in read_text(path, columns, "|", names, "latin-1", quotes=False):
        named = [pc.if_else(pc.equal(movies[genre], 1), genre, None) for genre in _GENRES]
        joined = pc.binary_join_element_wise(*named, "|", null_handling="skip")
        yield path, _items(movies["item_id"], movies["title"], joined)


def _movies_dat(path: Path) -> Iterator[Part]:
    """A title may hold single colons, so that only Python splits these few thousand lines."""
    if not path.stat().st_size:
        raise DataError(f"{path} is empty: download it again")
    rows = []
    for row, line in enumerate(path.read_text("latin-1").removesuffix("\n").split("\n")):
        cells = line.split("::")
        if len(cells) != 3 or not cells[0].isdigit():
            raise DataError(f"{path}: row {row}: `{line}` is not id::title::genres; cut short?")
        rows.append(cells)
    ids, titles, genres = zip(*rows, strict=True)
    yield path, _items(pa.array(map(int, ids)), pa.array(titles), pa.array(genres))


def _movies_csv(path: Path) -> Iterator[Part]:
    for movies in read_text(path, {"movieId": INT, "title": TEXT, "genres": TEXT}):
        yield path, _items(movies["movieId"], movies["title"], movies["genres"])


def _items(ids: pa.Array, titles: pa.Array, genres: pa.Array) -> pa.Table:
    unknown = pc.is_in(genres, value_set=pa.array(["", "unknown", "(no genres listed)"]))
    genres = pc.if_else(unknown, pa.scalar(None, pa.string()), genres)
    return pa.table({"item_id": ids, "title": titles, "cluster_ids": pc.split_pattern(genres, "|")})
