"""Logs as people have them: what is read, what is counted, and what is refused in a sentence."""

import dataclasses
import datetime
import decimal

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from negflax.data import (
    Catalogue,
    DataError,
    open_sequences,
    read_events,
    validate,
    write_table,
)
from negflax.data.event_files import read_items
from negflax.data.rule_matches import require_matches

T = 1_714_521_600_000
HEADER = "user_id,item_id,timestamp_ms,like\n"
ROWS = [("1", "a", T, 1), ("1", "b", T + 1, 0), ("1", "c", T + 2, 1), ("1", "d", T + 3, 1)]


def text(rows=ROWS, header=HEADER):
    return header + "".join(",".join(map(str, row)) + "\n" for row in rows)


def with_cell(column, value, row=0):
    rows = [list(one) for one in ROWS]
    rows[row][column] = value
    return text(rows)


@pytest.fixture
def opened(tmp_path, make_config):
    """The sequences of a log, given as the text or bytes of a CSV or as columns of a Parquet."""

    def build(log, positive=("like",), negative=(), split="leave_one_out"):
        path = tmp_path / ("log.parquet" if isinstance(log, dict) else "log.csv")
        if isinstance(log, dict):
            base = {"user_id": [1] * 4, "item_id": list("abcd"), "timestamp_ms": [T] * 4}
            pq.write_table(pa.table(base | {"like": [True] * 4} | log), path)
        else:
            path.write_bytes(log if isinstance(log, bytes) else log.encode())
        config = make_config(split, positive, negative, source="event_log", path=str(path))
        return open_sequences(config, tmp_path / "run")

    return build


PLAIN_WAYS = {
    "Windows line ends": text().replace("\n", "\r\n"),
    "a byte order mark": b"\xef\xbb\xbf" + text().encode(),
    "blanks around names": text(header="user_id, item_id ,timestamp_ms, like\n"),
    "a name without text": text([(*r, "") for r in ROWS], HEADER[:-1] + ",\n"),
    "blank lines": text() + "\n\n",
    "blanks around values": text([(" 1", "a ".replace("a", r[1]), r[2], r[3]) for r in ROWS]),
    "True, FALSE and T": text([(*r[:3], w) for r, w in zip(ROWS, "True FALSE t T".split())]),  # noqa: B905
    "times with fractions": text([(r[0], r[1], f"{r[2]}.25", r[3]) for r in ROWS]),
    "zero bytes in a column that nothing reads": text(
        [(*r, "x\0y") for r in ROWS], HEADER[:-1] + ",note\n"
    ),
}


@pytest.mark.parametrize("way", PLAIN_WAYS)
def test_odd_spellings_are_read_correctly(opened, way):
    found = opened(PLAIN_WAYS[way])
    assert found.catalogue.item_ids.tolist() == ["a", "b", "c", "d"]
    assert (found.time_E - T).tolist() == [0, 1, 2, 3]
    assert found.positive_weight_E.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("sign", ["\x85", "\x0b", "\x0c", "\x1c", "\u2028", "\u2029"])
def test_only_line_ends_end_lines(opened, sign):
    assert f"a{sign}b" in opened(with_cell(1, f"a{sign}b")).catalogue.item_ids.tolist()


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (text().encode("utf-16"), r"log\.csv is UTF-16 text: save the file as UTF-8"),
        (text() + "\0" * 20, r"log\.csv: row 4 cannot be read: .*zero bytes"),
        (with_cell(1, "a\0"), r"`item_id`, row 0: .* zero byte"),
        (with_cell(3, "1\0"), r"`like`, row 0: '1\\x00'"),
        (text(header=HEADER.replace("like", "item_id")), r"`item_id` appears twice"),
        (text(header=",,item_id,like\n"), r"column `user_id` is missing"),
        (text().replace(",", ";"), r"its fields are separated by ';'; save it with commas"),
        (text().replace(",", "\t"), r"its fields are separated by '\\t'"),
        (text().replace(",", ";").replace(";1", ";1,5"), "its fields are separated by ';'"),
        (text() + "1,e\n", r"log\.csv: row 4 cannot be read: Expected 4 columns, got 2"),
        (text() + "1,e,5,1,9\n", r"row 4 cannot be read: Expected 4 columns, got 5"),
        (with_cell(1, ""), r"`item_id`, row 0: is null"),
        (with_cell(1, "nan", 2), r"`item_id`, row 2: 'nan' is no"),
        (with_cell(0, "None", 3), r"`user_id`, row 3: 'None' is no"),
        (with_cell(1, "  "), r"`item_id`, row 0: '  ' is no"),
        (with_cell(2, -5), r"`timestamp_ms`, row 0: -5 is negative"),
        (with_cell(2, "99999999999999999999"), r"`timestamp_ms`: a number beyond int64"),
        (with_cell(2, '"1,714,521"'), r"`timestamp_ms`, row 0: text '1,714,521'"),
        (with_cell(2, "05/01/2024"), r"`timestamp_ms`, row 0: .*ISO 8601"),
        (with_cell(2, "1969-12-31T23:59:59Z"), r"`timestamp_ms`, row 1: .*ISO 8601"),
        (with_cell(3, 2), r"`like`, row 0: 2 is neither yes nor no|2 is no yes or no"),
    ],
)
def test_bad_logs_give_an_error_of_one_sentence(opened, log, words):
    with pytest.raises(DataError, match=words) as caught:
        opened(log)
    assert "\n" not in str(caught.value) and "\0" not in str(caught.value)


D = decimal.Decimal


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        (pa.array([1.0, 2.0, 3.0, 4.0]), [1, 2, 3, 4]),
        (pa.array([1, 2, 3, 4], pa.uint64()), [1, 2, 3, 4]),
        (pa.array([D(1), D(2), D(3), D(4)], pa.decimal128(10, 0)), [1, 2, 3, 4]),
        (pa.array(["1.0", "2.0", "3", "4.00"]), [1, 2, 3, 4]),
        (pa.array(["1.0", "2.0", "3", "v4"]), ["1", "2", "3", "v4"]),
        (pa.array(["1", "1.00", "2.0", "v1.0"]), ["1", "2", "v1.0"]),
        (pa.array([1.0, 2.0**11, 3.0, 4.0], pa.float16()), [1, 3, 4, 2**11]),
        (pa.array(["01", "1", "2", "3"]), ["01", "1", "2", "3"]),
        (pa.array([2**62, 2**62 + 1, 5, 6]), [5, 6, 2**62, 2**62 + 1]),
    ],
)
def test_ids_of_many_types(opened, column, ids):
    assert opened({"item_id": column}).catalogue.item_ids.tolist() == ids


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"item_id": pa.array([1.5, 2.0, 3.0, 4.0])}, "`item_id`, row 0: 1.5 is no"),
        ({"item_id": [1.0, float("nan"), 3.0, 4.0]}, "`item_id`, row 1: nan is no"),
        ({"item_id": [2.0**60, 2.0, 3.0, 4.0]}, "`item_id`, row 0: 1.15.* is no"),
        ({"user_id": pa.array([1.0, 2.0**24 + 2, 3.0, 4.0], pa.float32())}, "row 1: .* float32"),
        ({"creator_id": pa.array([1.0, 2050.0, 3.0, 4.0], pa.float16())}, "row 1: .* float16"),
        ({"item_id": pa.array([2**64 - 1, 2, 3, 4], pa.uint64())}, "an id beyond int64"),
        ({"item_id": pa.array(["a", None, "b", "c"])}, "`item_id`, row 1: is null"),
        ({"user_id": pa.array([1, None, 1, 1])}, "`user_id`, row 1: is null"),
        ({"item_id": [True, False, True, False]}, "`item_id`: ids of type bool"),
        ({"timestamp_ms": pa.array([2**64 - 1] * 4, pa.uint64())}, "row 0: .* beyond int64"),
        ({"timestamp_ms": pa.array(np.full(4, T, np.float32))}, "float32 is exact to minutes"),
        ({"timestamp_ms": pa.array([1] * 4, pa.time32("s"))}, "`timestamp_ms`: .* time32"),
    ],
)
def test_types_that_cannot_be_read(opened, columns, words):
    with pytest.raises(DataError, match=words):
        opened(columns)


@pytest.mark.parametrize("kind", [pa.float16(), pa.uint64(), pa.decimal128(5, 1), pa.int8()])
def test_signals_and_numbers_of_any_type(opened, kind):
    values = pa.array([1.0, 0.0, 1.0, 1.0]).cast(kind)
    assert opened({"like": values}).positive_weight_E.tolist() == [1, 0, 1, 1]
    many = pa.array([4.0, 1.0, 5.0, 0.0]).cast(kind)
    found = opened({"stars": many, "x": [0] * 4}, positive=("stars >= 4",))
    assert found.positive_weight_E.tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.string()])
def test_a_rule_means_the_number_that_is_written_in_any_precision(opened, kind):
    scores = pa.array([0.1, 0.7, 0.3, 0.8]).cast(kind)
    for name in ("score", "rating"):
        found = opened({name: scores}, (f"{name} >= 0.7",), (f"{name} == 0.1",))
        assert found.positive_weight_E.tolist() == [0, 1, 0, 1]
        assert found.negative_weight_E.tolist() == [1, 0, 0, 0]


def test_an_unused_column_causes_no_error(opened):
    for strange in ([float("nan"), float("inf"), 1.0, 2.0], [{"a": 1}] * 4, [None] * 4):
        assert len(opened({"other": strange}).item_E) == 4


def test_mixed_time_zones_are_one_time(opened):
    zones = ("2024-05-01T00:00:00Z", "2024-05-01T02:00:01+02:00", "2024-05-01 00:00:02")
    rows = [(*r[:2], t, r[3]) for r, t in zip(ROWS, (*zones, "2024-04-30T19:00:03-0500"))]  # noqa: B905
    assert ((opened(text(rows)).time_E - T) // 1000).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("year", [1970, 2262, 2263, 9999])
def test_the_first_and_last_years(opened, year):
    stamps = [f"{year}-01-01T00:00:0{i}Z" for i in range(4)]
    rows = [(*r[:2], t, r[3]) for r, t in zip(ROWS, stamps, strict=True)]
    wanted = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert opened(text(rows)).time_E[0] == (wanted - epoch) // datetime.timedelta(milliseconds=1)


def test_zeros_among_times_are_counted_and_reported(opened, caplog):
    found = opened(with_cell(2, 0))
    assert found.report["times_before_1973"] == 1
    assert "1 events" in caplog.text and "1973" in caplog.text


def test_blanks_around_ids_are_counted(opened):
    found = opened(with_cell(1, " b "))
    assert found.catalogue.item_ids.tolist() == ["b", "c", "d"]
    assert found.report["repairs"]["ids_with_blanks"] == 1


def test_rules_that_match_nothing_are_refused_with_the_values(opened):
    kinds = text([(*r[:3], w) for r, w in zip(ROWS, "buy view view buy".split(), strict=True)])
    kinds = kinds.replace("like", "event")
    for rule, told in (
        ('event == "purchase"', "event is 'buy', 'view'"),
        ("event == Buy", "event is 'buy', 'view'"),
    ):
        found = opened(kinds, positive=(rule,))
        assert found.report["rule_matches"]["positive"] == {rule: 0}
        with pytest.raises(DataError, match=f"config.labels.positive: no event matches .*{told}"):
            require_matches(found.report)
    stars = {"stars": [1.0, 2.0, 5.0, 5.0]}
    found = opened(stars, positive=("like",), negative=("stars > 9",))
    with pytest.raises(DataError, match=r"negative: .*`stars > 9` \(stars lies from 1 to 5\)"):
        require_matches(found.report)


def test_a_run_without_a_positive_is_refused(opened):
    found = opened({"dislike": [True] * 4}, negative=("dislike",))
    with pytest.raises(DataError, match="no event is left as a positive.*labels.explicit"):
        require_matches(found.report)


def test_one_rule_of_several_without_a_match_is_a_warning(opened, caplog):
    found = opened({"stars": [1, 2, 5, 5]}, positive=("like", "stars == 7"))
    assert found.report["rules_without_match"] == {"stars == 7": "stars lies from 1 to 5"}
    assert "no event matches `stars == 7`" in caplog.text
    require_matches(found.report)


def test_a_split_column_in_capitals_and_without_validation(opened):
    def log(*words):
        rows = [(1, "a", r[2], 1, word) for r, word in zip(ROWS, words, strict=True)]
        return text(rows, HEADER[:-1] + ",split\n")

    found = opened(log("Train", "VALID ", "test", "test"), split="column")
    assert found.split_E.tolist() == [0, 1, 2, 2]
    with pytest.raises(DataError, match=r"`valid`.*valid_fraction = 0 and config.train.eval_every"):
        opened(log("train", "train", "test", "test"), split="column")


def test_a_text_id_in_a_later_log_of_numbers(tmp_path, make_config):
    def config(name, ids):
        rows = [(1, one, T + i, 1) for i, one in enumerate(ids)]
        (tmp_path / name).write_text(text(rows))
        return make_config(
            "leave_one_out", ("like",), (), source="event_log", path=str(tmp_path / name)
        )

    first = open_sequences(config("1.csv", [7, 30, 200, 7]), tmp_path / "a")
    later = config("2.csv", [7, "x", "017", "200.0", 30, "7.0"])
    known = open_sequences(later, tmp_path / "b", catalogue=first.catalogue)
    assert first.catalogue.ids(known.item_E).tolist() == [7, 200, 30, 7]
    grown = open_sequences(later, tmp_path / "c", known=first.catalogue)
    assert grown.catalogue.item_ids.tolist()[:3] == ["7", "30", "200"]
    assert {"x", "017"} <= set(grown.catalogue.item_ids.tolist())


def test_text_outside_of_the_vocabulary_changes_no_rows(tmp_path, make_config):
    rows = [(u, i, T + 10 * u + i, 1) for u in range(3) for i in (2, 10, 9)]
    catalogues = []
    for name, more in (("1.csv", []), ("2.csv", [(3, "x", T, 1)])):
        (tmp_path / name).write_text(text(rows + more))
        config = make_config(
            "leave_one_out",
            ("like",),
            (),
            source="event_log",
            path=str(tmp_path / name),
            min_item_events=2,
        )
        catalogues.append(open_sequences(config, tmp_path / name[0]).catalogue)
    assert catalogues[0].fingerprint == catalogues[1].fingerprint
    assert catalogues[0].has_rows_of(catalogues[1])


def test_has_rows_of_looks_at_ids_not_at_their_type():
    def catalogue(ids):
        zeros = np.zeros(len(ids) + 1, np.int64)
        return Catalogue(np.array(ids), zeros, zeros[:, None], zeros)

    assert catalogue([7, 30]).has_rows_of(catalogue(["7", "30"]))
    assert not catalogue([7, 30]).has_rows_of(catalogue(["30", "7"]))
    assert not catalogue([7, 30]).has_rows_of(catalogue(["7", "030"]))


def test_csv_lists_run_nothing_in_a_spreadsheet(tmp_path, caplog):
    table = pa.table(
        {
            "item_id": ["=1+1", "-5", "-x", "ok", None],
            "title": ["@SUM(A1)", "+1", "\tx", "a=b", "日本"],
            "score": [-1.5, 2.0, 3.0, 4.0, 5.0],
            "clusters": [["a", "b"], [], None, ["c"], ["=d"]],
        }
    )
    write_table(table, tmp_path / "lists.csv")
    found = csv.read_csv(tmp_path / "lists.csv").to_pydict()
    assert found["item_id"] == ["'=1+1", "-5", "'-x", "ok", ""]
    assert found["title"] == ["'@SUM(A1)", "+1", "'\tx", "a=b", "日本"]
    assert found["score"] == table["score"].to_pylist()
    assert found["clusters"] == ["a|b", "", "", "c", "'=d"]
    assert "5 texts begin like a formula" in caplog.text
    write_table(table, tmp_path / "lists.parquet")
    assert pq.read_table(tmp_path / "lists.parquet")["item_id"].to_pylist()[0] == "=1+1"


def test_work_grows_with_the_columns_and_not_with_their_square(tmp_path):
    """Calls of Python, not seconds: 3,000 columns may take three times those of 1,000."""
    import sys

    calls = []
    for width in (500, 1_500):
        columns = {"user_id": [1, 1], "item_id": ["a", "b"], "timestamp_ms": [T, T]}
        columns |= {f"c{i}": [0, 1] for i in range(width)}
        write_table(pa.table(columns), tmp_path / f"{width}.csv")
        count = 0

        def counted(*_):
            nonlocal count
            count += 1

        sys.setprofile(counted)
        try:
            table, _ = validate(read_events(str(tmp_path / f"{width}.csv"))[0], "log")
        finally:
            sys.setprofile(None)
        assert table.num_columns == width + 3
        calls.append(count)
    assert calls[1] < 4 * calls[0]


def test_one_long_id_is_refused_before_it_widens_all_others(opened):
    with pytest.raises(DataError, match="row 0: an id of 20,000 characters"):
        opened(with_cell(1, "x" * 20_000))
    with pytest.raises(DataError, match="an id of 20,000 characters"):
        validate(pa.table({"user_id": ["x" * 20_000], "item_id": [1], "pos": [1]}), "log")


def test_item_tables_are_read_by_the_same_rules(tmp_path):
    (tmp_path / "items.csv").write_text("item_id , title\n 7.0 ,one\n8.0,two\n")
    assert read_items(str(tmp_path / "items.csv"))["item_id"].to_pylist() == [7, 8]
    for ids in (" a", "a"), ("7", "7.0"):
        rows = "".join(f"{one},x\n" for one in (*ids, "b"))
        (tmp_path / "items.csv").write_text("item_id,title\n" + rows)
        with pytest.raises(DataError, match="row 1: item [a7] appears twice"):
            read_items(str(tmp_path / "items.csv"))


def test_numbers_as_a_spreadsheet_writes_them_and_times_beyond_all_bounds():
    base = {"user_id": [1], "item_id": [1], "pos": [1]}
    with pytest.raises(DataError, match="a point before decimals, and nothing between thousands"):
        validate(pa.table(base | {"rating": ["1.234,5"]}), "log")
    far = pa.table(base | {"timestamp_ms": pa.array([2**62], pa.timestamp("s"))})
    with pytest.raises(DataError, match="`timestamp_ms`: a time out of range"):
        validate(far, "log")


def test_what_an_item_table_holds_besides_and_a_misspelt_explicit_signal_are_told(
    tmp_path, make_config, caplog
):
    (tmp_path / "log.csv").write_text(text())
    (tmp_path / "items.csv").write_text("item_id,title,genres\na,A,x\nb,B,y\n")
    config = make_config(
        "leave_one_out",
        ("like",),
        ("like == 0",),
        source="event_log",
        path=str(tmp_path / "log.csv"),
        items_path=str(tmp_path / "items.csv"),
    )
    labels = dataclasses.replace(config.labels, explicit=("dislike", "lke"))
    found = open_sequences(dataclasses.replace(config, labels=labels), tmp_path / "run")
    assert found.report["item_columns_left_out"] == ["genres"]
    assert "config.labels.explicit names lke" in caplog.text


def test_a_column_that_nothing_reads_tells_no_two_events_apart(opened):
    columns = {"item_id": ["a", "a", "b", "c"], "timestamp_ms": [T, T, T + 1, T + 2]}
    for more in ({}, {"row": [1, 2, 3, 4]}, {"note": list("wxyz")}):
        assert len(opened(columns | more).item_E) == 3
    found = opened(columns | {"row": [1, 2, 3, 4]}, positive=("row >= 2",))
    assert len(found.item_E) == 4
