"""KuaiRand from CSV files in the original format, some of them of the real subset's rows."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from negflax.config import Config, DataConfig
from negflax.data import DataError, open_source, validate

HEADER = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,"
    "is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,"
    "is_profile_enter,is_rand,tab"
)
VIDEOS = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,"
    "server_width,server_height,music_id,music_type,tag\n"
    '5,70,NORMAL,2022-04-01,ShortImport,1.0,21000.0,720,1280,3,9.0,"12,65"\n'
    "6,71,AD,2022-04-01,,1.0,,720,1280,3,9.0,\n"
    "7,71,AD,2022-04-01,,1.0,0.0,720,1280,3,9.0,8\n"
)


def line(user, video, time, play, duration, tab, hate=0, rand=0):
    start = f"{user},{video},20220421,1300,{time},1,0,0,0,0,{hate},1"
    return f"{start},{play},{duration},0,0,0,{rand},{tab}\n"


def logs(size, early, late, random):
    parts = ("_part1", "_part2") if size == "27k" else ("",)
    files = {}
    for period, lines in (("4_08_to_4_21", early), ("4_22_to_5_08", late)):
        for i, part in enumerate(parts):
            files[f"log_standard_{period}_{size}{part}.csv"] = lines[i :: len(parts)]
    files[f"log_random_4_22_to_5_08_{size}.csv"] = random
    files = {name: f"{HEADER}\n{''.join(lines)}" for name, lines in files.items()}
    return files | {f"video_features_basic_{size}.csv": VIDEOS}


EARLY = [line(1, 5, 1000, 2999, 20000, 1), line(1, 6, 2000, 3000, 20000, 1)]
LATE = [
    line(2, 5, 3000, 0, 20000, 4),  # not the full-screen tab: no skip is known
    line(2, 7, 4000, 100, 200, 1),  # short because the video is
    line(2, 6, 5000, 200, 200, 1, hate=1),
    line(2, 6, 6000, 2999, 0, 1),  # duration unknown: 3 s
]
RANDOM = [line(3, 7, 7000, 9000, 9000, 1, rand=1)]


@pytest.mark.parametrize("size", ["pure", "1k", "27k"])
def test_events_and_items(prepared, size):
    events, items = prepared(f"kuairand/{size}", logs(size, EARLY, LATE, RANDOM))
    events, repairs = validate(events, size)
    assert repairs["duplicate_events"] == 0
    assert events["timestamp_ms"].to_pylist() == [1000, 2000, 3000, 4000, 5000, 6000]
    assert events["skip"].to_pylist() == [True, False, None, True, False, True]
    assert events["duration_ms"].to_pylist() == [20000] * 3 + [200] * 2 + [None]
    assert events["dislike"].to_pylist() == [False] * 4 + [True, False]
    assert events["dwell_ms"].to_pylist() == [2999, 3000, 0, 100, 200, 2999]
    assert items.to_pylist() == [
        {"item_id": 5, "creator_id": 70, "cluster_ids": ["12", "65"], "duration_ms": 21000},
        {"item_id": 6, "creator_id": 71, "cluster_ids": None, "duration_ms": None},
        {"item_id": 7, "creator_id": 71, "cluster_ids": ["8"], "duration_ms": None},
    ]


def test_random_exposure_is_a_split_of_its_own(prepared, tmp_path):
    from negflax.data.builders.prepared import open_prepared

    standard, _ = prepared("kuairand/pure", logs("pure", EARLY, LATE, RANDOM))
    random, _ = open_prepared("kuairand/pure", tmp_path / "data", ["random"])
    assert standard.num_rows == 6 and not pc.any(standard["random_exposure"]).as_py()
    assert random["item_id"].to_pylist() == [7] and pc.all(random["random_exposure"]).as_py()


def test_statistics_of_the_whole_month_are_never_read(prepared):
    files = logs("pure", EARLY, LATE, RANDOM)
    _, items = prepared("kuairand/pure", files | {"video_features_statistic_pure.csv": b"\xff"})
    assert set(items.column_names) == {"item_id", "creator_id", "cluster_ids", "duration_ms"}


def archive(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"KuaiRand-Pure/data/{name}")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def test_the_published_checksum_is_enforced(prepared, monkeypatch, tmp_path):
    pytest.importorskip("tensorflow_datasets")
    import tensorflow_datasets as tfds

    from negflax.data.builders import Kuairand

    packed = archive(logs("pure", EARLY, LATE, RANDOM))
    with pytest.raises(DataError, match="its md5 is .*, not 0820331067a3784d9691136f772b35a7"):
        prepared("kuairand/pure", {"KuaiRand-Pure.tar.gz": packed})
    assert not list((tmp_path / "data").rglob("*.array_record"))
    for config in Kuairand.BUILDER_CONFIGS[:4:3]:
        right = type(config.archive)(config.archive.name, "", hashlib.md5(packed).hexdigest())
        monkeypatch.setattr(config, "archive", right)
    events, items = prepared("kuairand/pure", {"KuaiRand-Pure.tar.gz": packed})
    assert events.num_rows == 6 and items.num_rows == 3
    info = tfds.builder("kuairand/pure", data_dir=tmp_path / "data").info
    assert [file["checksum"] for file in info.metadata["originals"]] == ["enforced"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("is_hate", "hated"), r"column `is_hate` is missing"),
        (lambda text: text[:-30], r"row 5: Expected 19 columns, got \d+"),
        (lambda text: text.replace(",3000,1,", ",soon,1,"), r"column `time_ms`, row 2: invalid"),
        (lambda text: text.replace(",4000,1,", ",4000,2,"), "column `click`, row 3: 2 is neither"),
        (lambda text: text.replace("2,6,2022", "2,,2022"), r"column `item_id`, row 4: is null"),
        (lambda text: text.replace(",3000,20000", ",-1,20000"), r"column `dwell_ms`, row 1: -1 is"),
        (lambda text: text.replace("1,5,2022", f"{2**63},5,2022"), r"column `user_id`, row 0: inv"),
        (lambda text: "", r"is empty: download"),
        (lambda text: HEADER + "\n", r"split `standard` has no rows"),
    ],
)
def test_bad_logs_name_file_column_and_row(prepared, tmp_path, change, message):
    files = logs("pure", [], EARLY + LATE, RANDOM)
    name = "log_standard_4_22_to_5_08_pure.csv"
    with pytest.raises(DataError, match=message) as caught:
        prepared("kuairand/pure", files | {name: change(files[name])})
    assert name in str(caught.value) or "has no rows" in message
    assert not list((tmp_path / "data").rglob("*.array_record"))  # nothing half written


def test_missing_and_double_files(prepared):
    files = logs("pure", EARLY, LATE, RANDOM)
    files.pop("log_random_4_22_to_5_08_pure.csv")
    with pytest.raises(
        DataError, match="log_random_4_22_to_5_08_pure.csv is not in this folder. K"
    ):
        prepared("kuairand/pure", files)
    name = "log_random_4_22_to_5_08_pure.csv"
    with pytest.raises(DataError, match=f"{name} is in it more than once"):
        prepared("kuairand/pure", files | {f"a/{name}": "", f"b/{name}": ""})


@pytest.mark.skipif(not os.environ.get("NEGFLAX_DATA_DIR"), reason="needs NEGFLAX_DATA_DIR")
def test_the_real_subset_in_the_original_format(prepared):
    """Parts 1 and 2 of the subset have every column: as CSV files they give the same events."""
    folder = Path(os.environ["NEGFLAX_DATA_DIR"], "kuairand-pure-mini")
    log = pq.read_table(folder / "interactions.parquet", filters=[("part", ">", 0)])
    source = open_source(Config(data=DataConfig(source="kuairand_mini")), "unused").events
    source = source.filter(pc.is_valid(source["dwell_ms"]))
    renamed = dict(
        video_id="item_id",
        time_ms="timestamp_ms",
        profile_stay_time="profile_stay_ms",
        comment_stay_time="comment_stay_ms",
    )
    zeros = pa.array(np.zeros(log.num_rows, np.int64))
    made = {"date": zeros, "hourmin": zeros, "is_rand": zeros}
    columns = [
        made.get(n, log[renamed.get(n, n)] if n not in made else None) for n in HEADER.split(",")
    ]
    out = io.BytesIO()
    csv.write_csv(pa.table(columns, HEADER.split(",")), out, csv.WriteOptions(quoting_style="none"))
    files = logs("pure", [], [], RANDOM)
    events, _ = prepared(
        "kuairand/pure", files | {"log_standard_4_22_to_5_08_pure.csv": out.getvalue()}
    )
    assert events.num_rows == source.num_rows == 222_446
    for column in (
        "user_id",
        "item_id",
        "timestamp_ms",
        "dislike",
        "like",
        "skip",
        "long_view",
        "dwell_ms",
        "duration_ms",
        "surface",
    ):
        assert events[column].to_pylist() == source[column].to_pylist(), column
