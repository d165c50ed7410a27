"""What `negflax train FILE` makes of a file before it trains."""

import errno
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from negflax.cli import look, main
from negflax.cli.roles import EVENT_ROLES, guess
from negflax.cli.train_file import prepared
from negflax.config import ConfigError, parse_tuple
from negflax.data import DataError

RULES = ("--like=stars >= 4", "--dislike=stars <= 2")


def log(path, time="timestamp", base=1_600_000_000, step=1):
    rows = [f"userId,movieId,stars,{time}"]
    for user in range(60):
        for place in range(12):
            when = base + step * (10_000 * place + user)
            rows.append(f"{user},{(user + place) % 20},{1 + (user * place) % 5},{when}")
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def settings(arguments):
    return dict(a.removeprefix("--config.").split("=", 1) for a in arguments if "--config." in a)


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_a_ratings_file_is_understood_in_any_unit_of_time(tmp_path, capsys, unit, scale):
    path = log(tmp_path / "r.csv", base=1_600_000_000 * scale, step=scale)
    found = settings(prepared([path, *RULES]))
    time = "timestamp" + (f":{unit}" if unit != "ms" else "")
    assert parse_tuple(found["data.columns"]) == (
        "user_id=userId",
        "item_id=movieId",
        f"timestamp_ms={time}",
    )
    assert parse_tuple(found["labels.positive"]) == ("stars >= 4",)
    assert found["data.split"] == "temporal"
    told = capsys.readouterr().out
    assert "720 events of 60 users on 20 items, 2020-09-13 to 2020-09-14" in told
    assert "the same as" in told and "split: temporal" in told


def test_settings_of_the_user_take_precedence_and_negatives_are_optional(tmp_path):
    path = log(tmp_path / "r.csv")
    found = settings(prepared([path, RULES[0], "--config.data.split=leave_one_out"]))
    assert found["data.split"] == "leave_one_out" and found["loss.objective"] == "ssm"


def test_labels_are_counted_as_they_are_trained_on(tmp_path, capsys):
    table = csv.read_csv(log(tmp_path / "r.csv"))
    table = table.append_column("back", pa.array([i % 2 == 0 for i in range(table.num_rows)]))
    pq.write_table(table.append_column("all", pc.is_valid(table["back"])), tmp_path / "r.parquet")
    path = str(tmp_path / "r.parquet")
    found = settings(prepared([path, RULES[0], "--dislike=back"]))
    assert parse_tuple(found["labels.explicit"]) == ("back",)
    kept = pc.sum(pc.and_not(pc.greater_equal(table["stars"], 4), table["back"])).as_py()
    assert f"\n{kept} ({kept / 720:.1%}) positive, 360 (50.0%) negative" in capsys.readouterr().out
    prepared([path, RULES[0], "--dislike=back", "--config.labels.explicit=()"])
    likes = pc.sum(pc.greater_equal(table["stars"], 4)).as_py()
    assert f"\n{likes} ({likes / 720:.1%}) positive" in capsys.readouterr().out
    with pytest.raises(DataError, match="no event is left as a positive"):
        prepared([path, RULES[0], "--dislike=all"])


def test_without_rules_the_error_proposes_some(tmp_path):
    path = log(tmp_path / "r.csv")
    table = csv.read_csv(path)
    decimals = table.set_column(2, "stars", table["stars"].cast(pa.decimal128(20, 1)))
    pq.write_table(decimals, tmp_path / "r.parquet")
    for file in (path, str(tmp_path / "r.parquet")):
        with pytest.raises(ConfigError, match='--like="stars >= 4" --dislike="stars <= 2"'):
            prepared([file])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("a,b", r"user_id; no column looks like item_id; .* timestamp_ms \(or pos\)"),
        ("customer_id,member_id,item,ts", "user_id may be customer_id or member_id"),
        ("uid,item,date,datetime", "may be date or datetime"),
        ("sid,ts", "may be sid; item_id may be sid"),
    ],
)
def test_what_is_missing_or_unclear_is_named_at_once(header, message):
    schema = pa.schema([(name, pa.int64()) for name in header.split(",")])
    with pytest.raises(DataError, match=message):
        guess(schema, "x.csv", {}, EVENT_ROLES)


def test_a_name_that_fits_two_roles_takes_the_free_one():
    schema = pa.schema([(name, pa.int64()) for name in ("uid", "sid", "event_time")])
    columns = guess(schema, "x.csv", {}, EVENT_ROLES).columns
    assert columns == {"user_id": "uid", "item_id": "sid", "timestamp_ms": "event_time"}


@pytest.mark.parametrize(
    "kind", [pa.float64(), pa.float32(), pa.decimal128(20, 0), pa.binary(), pa.string_view()]
)
def test_ids_of_any_type_that_is_read_are_found(kind):
    schema = pa.schema([("user_id", kind), ("movieId", kind), ("ts", pa.int64())])
    assert guess(schema, "x", {}, EVENT_ROLES).columns["item_id"] == "movieId"


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.decimal128(22, 3), pa.string()])
def test_the_unit_of_times_in_any_type(kind):
    column = pa.chunked_array([pa.array([1_600_000_000, None]).cast(kind)])
    for times in (column, column.dictionary_encode()):
        assert look.unit_of(times, "x.csv: column `ts`") == "s"


@pytest.mark.parametrize("values", [[1, 2, 30], [1_600_000_000, 1_600_000_000_000]])
def test_numbers_that_are_no_times_are_refused(values):
    with pytest.raises(DataError, match="not times since 1970 in one unit"):
        look.unit_of(pa.chunked_array([values]), "x.csv: column `day`")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "is empty"),
        ("a\n1\n", "no column"),
        ("user_id;item_id;ts\n1;2;3\n", "separated by ';'"),
        ("user_id,item_id,ts", "the table has no rows"),
    ],
)
def test_bad_files_give_an_error_of_one_sentence(tmp_path, monkeypatch, content, message):
    path = tmp_path / "x.csv"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(sys, "argv", ["negflax", "train", str(path), *RULES])
    with pytest.raises(SystemExit, match=message):
        main.main()


def test_a_split_column_without_validation_trains_without_it(tmp_path, capsys):
    path = tmp_path / "r.csv"
    log(path)
    header, *rows = path.read_text().split("\n")
    rows = [f"{row},{'test' if i % 12 == 11 else 'Train'}" for i, row in enumerate(rows) if row]
    path.write_text("\n".join([header + ",split", *rows]))
    found = settings(prepared([str(path), *RULES]))
    assert (found["data.split"], found["train.eval_every"]) == ("column", "0")
    assert "training without validation" in capsys.readouterr().out


def test_names_with_blanks_and_an_empty_file_in_the_folder(tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "0.csv").touch()
    path = tmp_path / "log" / "1.csv"
    log(path)
    header, rows = path.read_text().split("\n", 1)
    (tmp_path / "log" / "00.csv").write_text(header + "\n")
    path.write_text(header.replace(",", ", ") + "\n" + rows)
    found = settings(prepared([str(tmp_path / "log"), *RULES]))
    assert "timestamp_ms=timestamp:s" in parse_tuple(found["data.columns"])


@pytest.mark.parametrize("time", [["n/a", "1600000000"], ["1600000000", "", "soon"]])
def test_the_unit_of_times_is_found_among_words(time):
    assert look.unit_of(pa.chunked_array([time]), "x.csv: column `ts`") in ("ms", "s")


def test_a_rule_that_matches_nothing_is_told_with_the_values(tmp_path):
    with pytest.raises(DataError, match=r"`stars >= 40` \(stars lies from 1 to 5\)"):
        prepared([log(tmp_path / "r.csv"), "--like=stars >= 40"])


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "runs/r")

    monkeypatch.setattr(main.train_file, "prepared", full)
    monkeypatch.setattr(sys, "argv", ["negflax", "train", "x.csv"])
    with pytest.raises(SystemExit, match=r"OSError: runs/r cannot be written \(No space left"):
        main.main()


def test_help(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["negflax"])
    main.main()
    assert "negflax train ratings.csv" in capsys.readouterr().out
