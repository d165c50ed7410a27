"""`negflax train FILE`: a file of events and two rules → the arguments of launch.train."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from negflax.cli.look import choose_split, summary, unit_of
from negflax.cli.roles import EVENT_ROLES, ITEM_ROLES, Guess, guess
from negflax.config import (
    ConfigError,
    LabelConfig,
    event_log_defaults,
    parse_tuple,
    shipped_path,
    to_dict,
)
from negflax.data import DataError, read_events
from negflax.data.columns import flat, is_number, tidy_names
from negflax.data.event_files import event_files, kind_of, read_table
from negflax.data.renaming import Renaming, renaming
from negflax.data.rules import asked, parse_rule
from negflax.data.schema import validate

RATINGS = ("rating", "ratings", "stars", "score", "overall", "grade")
LIKES = ("like", "liked", "favourite", "favorite", "purchase", "bought", "click", "clicked")
DISLIKES = ("dislike", "disliked", "returned", "skip", "skipped", "dismissal", "hide", "report")
_RULES = re.compile(r"--config\.labels\.(?P<key>positive|negative|explicit|skip)=(?P<value>.*)")


def prepared(arguments: list[str]) -> list[str]:
    """Looks at the file, says what it found, and returns arguments for launch.train.

    Raises:
      ConfigError: a rule or mapping that cannot be used.
      DataError: a file that cannot be read, or whose columns are not clear.
    """
    given, rest = _parser().parse_known_args(arguments)
    if odd := [one for one in rest if not one.startswith("-")]:
        raise ConfigError(
            f"{odd[0]}: only one file or folder is expected; give the item table with --items"
        )
    files = event_files(given.file, given.items)
    # Of several files the first with events, as the next ones are read for training alone.
    table = next((found for found in map(_sample, _with_bytes(files)) if len(found)), None)
    table = _sample(files[0]) if table is None else table
    names = renaming(parse_tuple(given.columns) if given.columns else (), "--columns")
    roles = guess(table.schema, given.file, names.theirs, EVENT_ROLES)
    columns = _with_units(table, roles, names, given.file)
    item_roles = None
    if given.items:
        more = parse_tuple(given.item_columns) if given.item_columns else ()
        wanted = renaming(more, "--item_columns").theirs
        item_roles = guess(_sample(Path(given.items)).schema, given.items, wanted, ITEM_ROLES)
    _say(f"columns of {given.file}", roles, columns)
    if item_roles:
        _say(f"columns of {given.items}", item_roles, item_roles.columns)
    if not given.like:
        raise ConfigError(_proposal(table, roles, given.file))
    labels = _labels(parse_tuple(given.like), _rules(given.dislike), rest)
    settings = {
        "data.path": given.file,
        "data.columns": _entries(columns),
        "labels.positive": labels.positive,
        "labels.negative": labels.negative,
        "labels.explicit": labels.explicit,
    }
    if item_roles:
        settings |= {
            "data.items_path": given.items,
            "data.item_columns": _entries(item_roles.columns),
        }
    if not labels.negative:
        settings["loss.objective"] = "ssm"
        print("no --dislike: training on positives only (config.loss.objective = ssm)")
    events, items = read_events(
        given.file,
        given.items,
        asked(labels),
        settings["data.columns"],
        settings.get("data.item_columns", ()),
    )
    events, _ = validate(events, given.file, asked(labels))
    print(*summary(events, items, labels), sep="\n")
    if not any(one.startswith("--config.data.split") for one in rest):
        split = choose_split(events)
        settings["data.split"] = split.name
        if split.name == "column" and not pc.any(pc.equal(events["split"], "valid")).as_py():
            settings |= {"data.valid_fraction": 0.0, "train.eval_every": 0, "train.patience": 0}
            print("no event of the column `split` is `valid`: training without validation")
        print(f"split: {split.name} ({split.why})")
    settings |= _for_size(events.num_rows)
    flags = [f"--workdir={given.workdir or 'runs/' + _stem(given.file)}"]
    flags += [f"--json={given.json}"] if given.json else []
    flags += [f"--config.{key}={_text(value)}" for key, value in settings.items()]
    flags += rest
    print(f"this is the same as\n  {_command(flags)}\n", flush=True)
    return [f"--config={shipped_path('event_log')}", *flags]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="negflax train",
        allow_abbrev=False,
        description="Trains on a .csv or .parquet file of events, or a folder of them.",
        epilog="You can add any setting, such as --config.loss.omega=1.0, and flags of "
        "launch.train, such as --init_from=FOLDER. In place of FILE you can give --config=NAME or "
        "--config=FILE.py.",
    )
    parser.add_argument("file", metavar="FILE", help="file or folder with one row per event")
    parser.add_argument("--like", default="", help='rules for positives, such as "stars >= 4"')
    parser.add_argument("--dislike", default="", help='rules for negatives, such as "returned: 2"')
    parser.add_argument(
        "--columns",
        default="",
        metavar="OURS=THEIRS,…",
        help="columns that are guessed wrongly, such as item_id=movieId,timestamp_ms=rated_at:s",
    )
    parser.add_argument("--items", default="", help="table of items: titles, genres, creators")
    parser.add_argument("--item_columns", default="", help="like --columns, for --items")
    parser.add_argument("--workdir", default="", help="folder of the run; default: runs/FILE")
    parser.add_argument("--json", default="", help="write the printed figures to this file")
    return parser


def _with_bytes(files: list[Path]) -> list[Path]:
    return [file for file in files if not file.is_file() or file.stat().st_size]


def _sample(file: Path) -> pa.Table:
    """A table with the columns of a file; the whole of a CSV, a part of a Parquet file."""
    return tidy_names(_first_rows(file))


def _first_rows(file: Path) -> pa.Table:
    if not file.is_file() or kind_of(file) != ".parquet":
        if file.is_file() and not file.stat().st_size:
            raise DataError(f"{file}: the file is empty: give at least one event")
        return read_table(file)
    try:
        with pq.ParquetFile(file) as stream:
            first = next(stream.iter_batches(1_000_000), None)
            schema = stream.schema_arrow
        return schema.empty_table() if first is None else pa.Table.from_batches([first])
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read, it may be cut short: {error}") from error


def _with_units(table: pa.Table, roles: Guess, names: Renaming, path: str) -> dict[str, str]:
    """{ours: theirs}, with the unit of the times behind a colon."""
    columns = dict(roles.columns)
    time = columns.get("timestamp_ms")
    if time is not None and time in table.column_names:
        unit = names.units.get("timestamp_ms")
        if unit is None:
            unit = unit_of(table[time], f"{path}: column `{time}`")
        columns["timestamp_ms"] = time + (f":{unit}" if unit != "ms" else "")
    return columns


def _say(what: str, roles: Guess, columns: dict[str, str]) -> None:
    print(f"{what}: {', '.join(f'{ours} = {theirs}' for ours, theirs in columns.items())}")
    for role, candidates in roles.unclear.items():
        print(f"  {role}: not read, as it may be {' or '.join(candidates)}; choose with --columns")


def _entries(columns: dict[str, str]) -> tuple[str, ...]:
    return tuple(f"{ours}={theirs}" for ours, theirs in columns.items() if ours != theirs)


def _rules(text: str) -> tuple[str, ...]:
    return parse_tuple(text) if text else ()


def _labels(positive: tuple[str, ...], negative: tuple[str, ...], rest: list[str]) -> LabelConfig:
    """The rules that are trained on: a dislike that was named beats a like on the same event.

    Args:
      positive: rules of --like.
      negative: rules of --dislike.
      rest: further flags; what they say of the rules takes precedence.
    """
    liked = {parse_rule(rule).signal for rule in positive}
    signals = dict.fromkeys(parse_rule(rule).signal for rule in negative)
    explicit = tuple(signal for signal in signals if signal not in liked)
    flags = map(_RULES.fullmatch, rest)
    said = {flag["key"]: parse_tuple(flag["value"]) for flag in flags if flag}
    return dataclasses.replace(LabelConfig(positive, negative, explicit), **said)


def _for_size(num_events: int) -> dict[str, object]:
    """The settings that suit a log of this size, where they are not those of configs/event_log."""
    base, sized = (to_dict(event_log_defaults(num)) for num in (0, num_events))
    return {
        f"{section}.{key}": value
        for section, values in sized.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if value != base[section][key]
    }


def _proposal(table: pa.Table, roles: Guess, path: str) -> str:
    """What to write for --like and --dislike, from the columns that look like feedback."""
    like, dislike = [], []
    for field in table.schema:
        word = field.name.lower()
        if word in RATINGS and is_number(field.type):
            span = pc.min_max(pc.cast(flat(table[field.name]), pa.float64(), safe=False)).as_py()
            if span["max"] is not None:
                width = span["max"] - span["min"]
                like.append(f"{field.name} >= {span['min'] + 0.75 * width:g}")
                dislike.append(f"{field.name} <= {span['min'] + 0.25 * width:g}")
        elif word in LIKES:
            like.append(field.name)
        elif word in DISLIKES:
            dislike.append(field.name)
    others = [name for name in table.column_names if name not in roles.columns.values()]
    if not like:
        return (
            "--like is missing: which events are positive? Write a rule on one of the columns "
            f"{', '.join(others) or '(there is none beside user, item and time)'}, such as "
            '--like="stars >= 4"'
        )
    rules = f' --like="{", ".join(like)}"' + (f' --dislike="{", ".join(dislike)}"' * bool(dislike))
    return f"--like is missing: which events are positive? Perhaps\n  negflax train {path}{rules}"


def _text(value: object) -> str:
    return repr(value) if isinstance(value, tuple) else str(value)


def _stem(path: str) -> str:
    return Path(path).name.split(".")[0] or "events"


def _command(flags: list[str]) -> str:
    """What runs the same again: launch.train in the repository, else the command itself."""
    local = Path("configs/event_log.py")
    inside = local.exists() and local.samefile(shipped_path("event_log"))
    start = (
        "python -m launch.train --config=configs/event_log.py"
        if inside
        else "negflax train --config=event_log"
    )
    return " \\\n    ".join([start, *map(_quoted, flags)])


def _quoted(argument: str) -> str:
    """For a shell; in double quotes where that reads better."""
    plain = shlex.quote(argument)
    return plain if plain == argument or set(argument) & set('"$`\\!') else f'"{argument}"'
