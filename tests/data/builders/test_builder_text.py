"""Delimited text: streamed, and errors that name file, column and row."""

import pyarrow as pa
import pytest

from negflax.data import DataError
from negflax.data.builders import text
from negflax.data.builders.text import FLOAT, INT, TEXT, read_text


@pytest.fixture
def read(tmp_path):
    def read(content, columns, **options):
        path = tmp_path / "log.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return pa.concat_tables(read_text(path, columns, **options))

    return read


def test_reads_the_columns_in_blocks(read, monkeypatch):
    monkeypatch.setattr(text, "BLOCK_BYTES", 64)
    rows = [(i, i / 2, f"t{i}") for i in range(200)]
    content = "n,f,unused,t\n" + "".join(f"{n},{f},x,{t}\n" for n, f, t in rows)
    table = read(content, {"t": TEXT, "n": INT, "f": FLOAT})
    assert table.column_names == ["t", "n", "f"]
    assert list(zip(*[table[c].to_pylist() for c in "nft"], strict=True)) == rows
    assert table["n"].num_chunks > 10


def test_nothing_is_null(read):
    table = read("n,f,t\n1,,a\n,NaN,\n3,1e3,null\n", {"n": INT, "f": FLOAT, "t": TEXT})
    assert table.to_pydict() == {"n": [1, None, 3], "f": [None, None, 1000], "t": ["a", None, None]}


def test_no_header_and_other_delimiters(read):
    names = ["a", "b"]
    assert read("1\t2\n3\t4\n", {"b": INT}, delimiter="\t", names=names)["b"].to_pylist() == [2, 4]
    assert read(
        "1|é\n".encode("latin-1"), {"b": TEXT}, delimiter="|", names=names, encoding="latin-1"
    )["b"].to_pylist() == ["é"]
    assert read(b"\xef\xbb\xbfa,b\r\n1,2\r\n", {"a": INT})["a"].to_pylist() == [1]


LONG = "a,b\n" + "1,2\n" * 500


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("", {"a": INT}, r"log.csv is empty: download"),
        ("x,b\n1,2\n", {"a": INT}, r"log.csv: column `a` is missing; its header is x, b: is this"),
        (LONG + "1,two\n", {"b": INT}, r"log.csv: column `b`, row 500: invalid value 'two'; write"),
        (LONG + "1\n", {"b": INT}, r"log.csv: row 500: Expected 2 columns, got 1: 1; .* cut short"),
        (LONG + "1,2,3\n", {"b": INT}, r"log.csv: row 500: Expected 2 columns, got 3"),
        (LONG + f"{2**63},2\n", {"a": INT}, r"column `a`, row 500: invalid value '9223372036854"),
        (LONG.encode() + b"1,\xe9\n", {"b": TEXT}, r"column `b`, row 500: .*UTF8.* save the file"),
        ("a,b\n1,2\n".encode("utf-16"), {"a": INT}, r"log.csv: row 0 is not utf-8 text .*: save"),
    ],
)
def test_errors_name_file_column_and_row(read, monkeypatch, content, columns, message):
    monkeypatch.setattr(text, "BLOCK_BYTES", 256)
    with pytest.raises(DataError, match=message):
        read(content, columns)


def test_rows_count_from_0_without_a_header(read):
    with pytest.raises(DataError, match="column `b`, row 1: invalid value 'x'"):
        read("1,2\n3,x\n", {"b": INT}, names=["a", "b"])


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match="none.csv: there is no such file"):
        next(read_text(tmp_path / "none.csv", {"a": INT}))
