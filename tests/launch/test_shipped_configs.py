"""Every file in configs/, end to end: a few steps, a few users, every figure's name."""

import os
import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from programs import figures, run

from negflax.data.event_files import read_table

# ml_collections loads config files in a way that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

CONFIGS = Path(__file__).parents[2] / "configs"
# Those of the study start from another one; test_study.py runs them.
STARTS = sorted(f.stem for f in CONFIGS.glob("[!_]*.py") if not f.stem.startswith("study_"))
SMALL = {
    "batch.rows": 8,
    "batch.length": 10,
    "model.hidden": 8,
    "model.embedding": 8,
    "loss.num_candidates": 16,
    "loss.positives_only_steps": 2,
    "loss.ramp_steps": 1,
    "train.steps": 4,
    "train.eval_every": 2,
    "train.checkpoint_every": 2,
    "eval.history": 10,
    "eval.users_per_block": 512,
    "eval.bootstrap": 20,
}
WORLD = {"world.num_users": 80, "world.num_items": 100, "world.steps": 30}
REAL = {
    "kuairand": "kuairand-pure-mini",
    "kuairand_best": "kuairand-pure-mini",
    "responsiveness_kuairand": "kuairand-pure-mini",
    "ml1m_sequences": "ml-1m-sequences",
    "ml1m_sequences_full": "ml-1m-sequences",
    "ml1m_sequences_best": "ml-1m-sequences",
    "ml100k_sequences": "ml-100k",
    "movielens_100k": "ml-100k",
}
KEYS = [
    *("ndcg_p@10", "hr_p@10", "hr_n@10", "delta@10", "auc", "weighted_loss", "kept/ndcg_p@10"),
    *(f"{baseline}/ndcg_p@10" for baseline in ("popularity", "markov", "random")),
    *("ndcg_p@10_low", "ndcg_p@10_high", "ndcg_p@10_n", "ndcg_p@10/vs_popularity", "users"),
]


def some_users(name, folder):
    """The real data set with a hundred or so of its users."""
    source = Path(os.environ["NEGFLAX_DATA_DIR"]) / name
    log = pq.read_table(source / "interactions.parquet")
    users = pc.unique(log["user_id"]).to_numpy()
    chosen = pa.array(users[:: max(1, len(users) // 150)])
    (folder / name).mkdir()
    pq.write_table(
        log.filter(pc.is_in(log["user_id"], chosen)), folder / name / "interactions.parquet"
    )
    (folder / name / "items.parquet").symlink_to(source / "items.parquet")
    return {"data.root": folder}


def own_log(folder):
    rng = np.random.default_rng(0)
    events = pa.table(
        {
            "user_id": np.repeat(np.arange(30), 20),
            "item_id": rng.integers(0, 25, 600),
            "timestamp_ms": rng.integers(0, 10**9, 600),
            "like": rng.random(600) < 0.3,
            "dislike": rng.random(600) < 0.2,
            "dwell_ms": rng.integers(0, 40_000, 600),
        }
    )
    pq.write_table(events, folder / "events.parquet")
    return {
        "data.path": folder / "events.parquet",
        "labels.positive": "('like: 2','dwell_ms >= 30000')",
        "labels.negative": "('dislike: 3','dwell_ms < 1000')",
    }


def built(name, folder):
    """A data set in its original format, prepared by the program."""
    # It defines a flag once, when it is imported, which is not the program's to take along.
    pytest.importorskip("array_record.python.array_record_data_source")
    rng = np.random.default_rng(0)
    num = 1000
    user, item = np.repeat(np.arange(40), 25), rng.integers(0, 25, num)
    (folder / "originals").mkdir()
    if name == "movie_lens":
        source, gap = "movie_lens/1m", np.full(num, "")
        files = {"movies.dat": "".join(f"{i}::Film {i}::Drama|War\n" for i in range(25))}
        rating, time = rng.integers(1, 6, num), rng.integers(1, 10**9, num)
        rows = zip(user, gap, item, gap, rating, gap, time, strict=True)  # joined by ":"
        files["ratings.dat"] = "".join(":".join(map(str, row)) + "\n" for row in rows)
    else:
        source = "kuairand/pure"
        names = "user_id video_id time_ms play_time_ms duration_ms tab is_like is_hate long_view"
        time = rng.integers(1_649_400_000_000, 1_652_000_000_000, num)
        plays, signals = rng.integers(0, 9000, (2, num)), rng.integers(0, 2, (4, num))
        columns = [user, item, time, *plays, *signals]
        rest = "is_click is_follow is_comment is_forward profile_stay_time comment_stay_time"
        names = [*names.split(), *rest.split(), "is_profile_enter", "is_rand", "date", "hourmin"]
        columns += [np.zeros(num, int)] * (len(names) - len(columns))
        rows = zip(*columns, strict=True)
        log = ",".join(names) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
        periods = ("standard_4_08_to_4_21", "standard_4_22_to_5_08", "random_4_22_to_5_08")
        files = {f"log_{period}_pure.csv": log for period in periods}
        videos = "".join(f"{i},{i % 5},9000.0,{i % 3}\n" for i in range(25))
        files["video_features_basic_pure.csv"] = "video_id,author_id,video_duration,tag\n" + videos
    for file, text in files.items():
        (folder / "originals" / file).write_text(text)
    run(
        "prepare",
        f"--data_set={source}",
        f"--manual_dir={folder / 'originals'}",
        f"--data_dir={folder / 'data'}",
        f"--json={folder / 'prepared.json'}",
    )
    assert figures(folder / "prepared.json")["rows/items"] == 25
    return {"data.root": folder / "data", "train.refit": False}  # configs/kuairand.py refits


BUILT = ("kuairand_pure", "movie_lens")  # minutes more: their builders have tests of their own
# But for sizes and the encoder, others in this list are these.
LONG = (*BUILT, "kuairand_best", "ml1m_sequences_best", "ml100k_sequences")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.system) if n in LONG else n for n in STARTS]
)
def test_from_events_to_figures(name, tmp_path):
    changes = dict(SMALL)
    if name in REAL:
        if not os.environ.get("NEGFLAX_DATA_DIR"):
            pytest.skip("needs NEGFLAX_DATA_DIR, set by .ci/run")
        changes |= some_users(REAL[name], tmp_path)
    elif name in BUILT:
        changes |= built(name, tmp_path)
    else:
        changes |= own_log(tmp_path) if name == "event_log" else WORLD
    workdir, out = tmp_path / "run", tmp_path / "figures.json"
    settings = [f"--config.{key}={value}" for key, value in changes.items()]
    run(
        "train", f"--config={CONFIGS / name}.py", f"--workdir={workdir}", *settings, f"--json={out}"
    )
    trained = figures(out)
    assert set(KEYS) <= set(trained)
    assert trained["step"] == 4 and trained["best_step"] in (2, 4)
    assert trained["targets_per_cpu_second"] > 0
    assert "<svg" in (workdir / "report.html").read_text()

    final = workdir / "refit" if (workdir / "refit").exists() else workdir
    run("evaluate", f"--workdir={final}", "--checkpoint=latest", f"--json={out}")
    evaluated = figures(out)
    assert set(KEYS) <= set(evaluated)
    assert evaluated["step"] == (4 if final == workdir else trained["best_step"])
    assert 0 <= evaluated["hr_p@10"] <= 1
    assert "</html>" in (final / "evaluation-test.html").read_text()
    for key in ("users", "popularity/ndcg_p@10", "markov/ndcg_p@10", "random/ndcg_p@10"):
        assert evaluated[key] == trained[key], key  # the baselines do not depend on the checkpoint

    if name == "event_log":
        recommends(final, tmp_path)


def recommends(workdir, folder):
    """The event log's lists, as CSV and as Parquet."""
    events, out = folder / "events.parquet", folder / "figures.json"
    for suffix, k, seen in ((".csv", 3, "--noexclude_seen"), (".parquet", 4, "--exclude_seen")):
        lists = folder / f"lists{suffix}"
        run(
            "recommend",
            f"--workdir={workdir}",
            f"--events={events}",
            f"--k={k}",
            seen,
            "--checkpoint=2",
            f"--out={lists}",
            f"--json={out}",
        )
        table = read_table(lists)
        assert table.column_names == ["user_id", "rank", "item_id", "score"]
        assert table["rank"].to_pylist() == [*range(1, k + 1)] * 30
        assert pc.unique(table["user_id"]).cast(pa.int64()).to_pylist() == [*range(30)]
        found = figures(out)
        assert (found["step"], found["k"], found["users"], found["events"]) == (2, k, 30, 600)


def test_the_arms_of_responsiveness_differ_in_what_reads_dislikes():
    file = runpy.run_path(str(CONFIGS / "responsiveness.py"))
    found = {
        name: (
            "dislike" in (config := file["get_config"](name)).model.features,
            config.calibration.after_training,
            config.loss.objective,
            config.calibration.omega,
        )
        for name in file["ARMS"]
    }
    assert found == {
        "no_signal": (False, False, "ssm", 0),
        "input_only": (False, True, "ssm", 0),
        "input_and_label": (False, True, "ntr", 0),
        "input_then_label": (False, True, "ssm", 3),
        "encoder_input_only": (True, False, "ssm", 0),
        "encoder_input_and_label": (True, False, "ntr", 0),
    }
    with pytest.raises(ValueError, match="choose from no_signal"):
        file["get_config"]("input")
