"""The public data sets: their published counts, and the labels that the sources define."""

import os
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from negflax.config import BatchConfig, Config, DataConfig, LabelConfig
from negflax.data import StreamBatches, build_sequences, open_source, validate

pytestmark = pytest.mark.skipif(
    not os.environ.get("NEGFLAX_DATA_DIR"), reason="needs NEGFLAX_DATA_DIR, set by .ci/run"
)


def opened(source, positive, negative, **data):
    labels = LabelConfig(positive=positive, negative=negative)
    config = Config(data=DataConfig(source=source, **data), labels=labels)
    raw = open_source(config, "unused")
    return raw, build_sequences(raw, config)


@pytest.fixture(scope="module")
def kuairand():
    return opened("kuairand_mini", ("long_view", "like"), ("dislike", "skip"), split="column")


def test_kuairand_events(kuairand):
    raw, _ = kuairand
    events = raw.events
    assert events.num_rows == 1_021_627
    split = dict(zip(*pc.value_counts(events["split"]).flatten(), strict=True))
    split = {k.as_py(): v.as_py() for k, v in split.items()}
    assert split["test"] == 130_641
    assert split["train"] + split["valid"] == 799_181 + 91_805
    assert split["valid"] == 35_665
    # 44 hates of part 0 are known, the rest of part 0 is unknown, not "no"
    assert pc.sum(events["dislike"]).as_py() == 44 + 63 + 124
    assert events["dislike"].null_count == 799_181 - 44
    assert pc.sum(pc.equal(events["duration_ms"], 0)).as_py() == 0
    feed = pc.equal(events["surface"], 1)
    assert pc.sum(pc.is_valid(events["skip"])).as_py() == pc.sum(feed).as_py()
    history_weak = pc.sum(events["weak_negative"]).as_py()
    assert history_weak == pytest.approx((1 - 0.363) * 799_181, rel=2e-3)


def test_kuairand_sequences(kuairand):
    raw, s = kuairand
    report = s.report
    assert report["repairs"] == {
        "unsorted_events": 0,
        "duplicate_events": 0,
        "events_moved_to_a_later_split": 0,
    }
    dropped = sum(part["events"] for part in report["unknown_items"].values())
    assert report["events"] + dropped == 1_021_627
    assert report["unknown_items"]["test"] == {"events": 21, "positives": 0, "negatives": 7}
    assert report["splits"]["test"]["positives"] == 42_329
    assert report["splits"]["test"]["negatives"] == 35_548
    assert report["splits"]["valid"]["negatives"] == 9_177
    assert report["users"] == 27_076
    assert s.catalogue.item_ids.size == 7_483
    assert s.catalogue.train_count_V.sum() == report["splits"]["train"]["events"]
    part_0 = s.time_E < 0
    assert 0.7 < part_0.mean() < 0.8
    assert not s.gap_E[part_0].any() and not s.dwell_E[part_0].any()
    late = (s.split_E == 1) & (s.time_E < 1_651_161_600_000)
    assert not late.any()
    assert (
        s.catalogue.feature_sizes["cluster"] > 40 and s.catalogue.feature_sizes["creator"] > 6_000
    )


def test_kuairand_labels_from_the_published_columns(kuairand):
    folder = Path(os.environ["NEGFLAX_DATA_DIR"], "kuairand-pure-mini")
    log = pq.read_table(folder / "interactions.parquet").to_pydict()
    columns = ("part", "long_view", "is_like", "is_hate", "is_short_play", "tab")
    positive = negative = 0
    for part, long_view, like, hate, short, tab in zip(*(log[c] for c in columns), strict=True):
        if part == 2:
            explicit, skip = hate == 1, tab == 1 and short == 1
            wanted = long_view == 1 or like == 1
            positive += wanted and not explicit
            negative += explicit or (skip and not wanted)
    test, dropped = (kuairand[1].report[part]["test"] for part in ("splits", "unknown_items"))
    assert test["positives"] + dropped["positives"] == positive
    assert test["negatives"] + dropped["negatives"] == negative


def test_kuairand_weak_negatives_are_of_the_training_period(kuairand):
    raw, without = kuairand
    labels = LabelConfig(positive=("long_view", "like"), negative=("skip", "weak_negative: .3"))
    config = Config(data=DataConfig(source="kuairand_mini", split="column"), labels=labels)
    s = build_sequences(raw, config)
    weak = s.negative_weight_E == np.float32(0.3)
    assert weak.sum() > 400_000 and not s.split_E[weak].any()


def test_kuairand_stream(kuairand):
    _, s = kuairand
    batches = StreamBatches(s, BatchConfig(), LabelConfig(), ("train", "valid"))
    known = s.split_E < 2
    assert batches.num_targets == np.sum((s.positive_weight_E + s.negative_weight_E > 0)[known])
    total = sum(
        int((batches.batch(i).label_ids_BTL > 0).sum()) for i in range(batches.steps_per_epoch)
    )
    assert total == batches.num_targets


def test_movielens_100k():
    raw, s = opened("movielens_100k", ("rating >= 4",), ("rating <= 2",))
    assert raw.events.num_rows == 100_000
    assert pc.sum(raw.events["dislike"]).as_py() == 17_480
    assert raw.events["dislike"].null_count == 0
    counts = s.report["splits"]
    assert counts["train"]["events"] == pytest.approx(80_000, abs=500)
    total = {
        sign: sum(
            part[sign] for group in ("splits", "unknown_items") for part in s.report[group].values()
        )
        for sign in ("positives", "negatives")
    }
    assert total == {"positives": 55_375, "negatives": 17_480}
    assert s.catalogue.feature_sizes["cluster"] == 20 and s.catalogue.titles[1] == "Toy Story"
    boundary = s.report["test_from_ms"]
    assert s.time_E[s.split_E == 2].min() >= boundary > s.time_E[s.split_E == 1].max()


def test_ml1m_sequences():
    _, s = opened("ml1m_sequences", ("interaction",), (), split="leave_one_out", min_item_events=5)
    assert (s.report["items"], s.report["events"], s.report["users"]) == (3_416, 999_611, 6_040)
    last = s.offsets_U1[1:]
    assert np.all(s.split_E[last - 1] == 2) and np.all(s.split_E[last - 2] == 1)
    assert s.report["splits"]["test"]["events"] == s.report["splits"]["valid"]["events"] == 6_040
    assert not s.negative_weight_E.any()


def test_sources_are_valid_logs_without_repairs():
    for source in ("movielens_100k", "ml1m_sequences"):
        raw = open_source(Config(data=DataConfig(source=source)), "unused")
        _, repairs = validate(raw.events, source)
        assert not any(repairs.values()), source
