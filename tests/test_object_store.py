"""A whole run on an object store: fsspec's file system in memory."""

import json
import os
import secrets
import shutil
import subprocess
import sys

import fsspec
import pytest
from programs import run as program
from test_front_door import log, small

import negflax
from negflax import object_store
from negflax.config import ConfigError
from negflax.mirror import Mirror
from negflax.object_store import TRAINER, local_copy, mirrored, refreshed, written

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
STORE = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Makes the next machine, whose local copies are elsewhere."""

    def new():
        monkeypatch.setenv(object_store.CACHE_DIR, str(tmp_path / secrets.token_hex(4)))

    new()
    return new


@pytest.fixture
def url():
    place = f"memory://bucket-{secrets.token_hex(4)}/runs/mine"
    yield place
    if STORE.exists(place):
        STORE.rm(place, recursive=True)


def test_a_run_is_trained_resumed_loaded_and_evaluated_there(url, machine):
    config = small(train={"steps": 6})
    first = negflax.fit(log(), config, url)
    assert {"config.json", "results.json", "report.html", "done.json"} <= {
        path.rpartition("/")[2] for path in STORE.find(url)
    }
    assert not STORE.exists(f"{url}/{TRAINER}")
    machine()
    assert negflax.load(url).evaluate("test")["ndcg_p@5"] == first.metrics["ndcg_p@5"]
    again = negflax.fit(log(), config, url)
    assert again.metrics["ndcg_p@5"] == first.metrics["ndcg_p@5"]
    assert not again.metrics["targets_per_cpu_second"]  # it had finished training


def test_a_run_goes_on_where_another_machine_was_killed(url, machine, monkeypatch):
    whole = negflax.fit(log(), small(train={"steps": 6}), local_copy("whole"))
    uploads = Mirror.upload

    def killed(mirror):
        uploads(mirror)
        for name in ("done.json", "results.json"):
            Mirror._delete(mirror, name)
        for path in STORE.find(f"{url}/checkpoints/6"):
            STORE.rm_file(path)
        mirror.write(".manifest.json", mirror._manifest_of_listing())

    with monkeypatch.context() as broken:
        broken.setattr(Mirror, "upload", killed)
        negflax.fit(log(), small(train={"steps": 6}), url, test=False)
    machine()
    run = negflax.fit(log(), small(train={"steps": 6}), url)
    assert run.metrics["ndcg_p@5"] == whole.metrics["ndcg_p@5"]
    lines = (run.workdir / "metrics.jsonl").read_text().splitlines()
    assert max(json.loads(line)["step"] for line in lines) == 6


def test_programs_take_addresses(url, machine, tmp_path, capsys):
    settings = ["world.num_users=80", "world.num_items=100", "world.steps=30", "batch.rows=8"]
    settings += ["batch.length=10", "model.hidden=8", "train.steps=4", "train.eval_every=2"]
    settings += ["train.checkpoint_every=2", "eval.history=10", "eval.bootstrap=20"]
    settings += ["loss.positives_only_steps=2", "loss.ramp_steps=1", "optimizer.warmup_steps=1"]
    program(
        "train",
        "--config=configs/synthetic.py",
        *[f"--config.{setting}" for setting in settings],
        f"--workdir={url}",
        f"--json={url}-figures.json",
    )
    figures = json.loads(STORE.cat_file(f"{url}-figures.json"))
    machine()
    program("evaluate", f"--workdir={url}", "--split=test")
    assert STORE.exists(f"{url}/evaluation-test.html")
    again = json.loads(STORE.cat_file(f"{url}/evaluation-test.json"))
    assert again["ndcg_p@10"] == figures["ndcg_p@10"]
    program("export", f"--workdir={url}", f"--out={url}-export")
    assert STORE.exists(f"{url}-export/items.parquet")
    STORE.rm(f"{url}-export", recursive=True)


def test_a_second_trainer_is_told_who_trains_there(url, monkeypatch):
    monkeypatch.setattr(object_store, "EVERY_S", 0.05)
    other = {"owner": "other", "host": "far", "process": 7, "beat": 0}
    STORE.pipe_file(f"{url}/{TRAINER}", json.dumps(other).encode())
    read, beats = Mirror.read, iter(range(1, 1000))
    with monkeypatch.context() as beating:
        beating.setattr(Mirror, "read", lambda m, name: read(m, name) | {"beat": next(beats)})
        with pytest.raises(ConfigError, match="process 7 on far trains there"):
            with mirrored(url, trains=True):
                pass
    with mirrored(url, trains=True) as folder:  # it beats no longer
        (folder / "a").write_text("1")
    assert STORE.exists(f"{url}/a")


def test_the_claim_of_a_dead_process_of_this_machine_is_taken_over_at_once(url, monkeypatch):
    monkeypatch.setattr(object_store, "EVERY_S", 1000)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead = {"owner": "x", "host": object_store._ME["host"], "process": child.pid, "beat": 3}
    STORE.pipe_file(f"{url}/{TRAINER}", json.dumps(dead).encode())
    with mirrored(url, trains=True):
        assert json.loads(STORE.cat_file(f"{url}/{TRAINER}"))["process"] == os.getpid()


def test_what_is_written_is_uploaded_even_after_an_error(url):
    with pytest.raises(KeyError), mirrored(url) as folder:
        (folder / "a").write_text("1")
        raise KeyError
    assert STORE.cat_file(f"{url}/a") == b"1"


def test_a_network_that_fails_for_a_while_is_a_warning(url, monkeypatch, caplog):
    monkeypatch.setattr(object_store, "EVERY_S", 0.02)
    upload, left = Mirror.upload, [2]

    def fails(mirror):
        if left[0]:
            left[0] -= 1
            raise OSError("the network is gone")
        upload(mirror)

    monkeypatch.setattr(Mirror, "upload", fails)
    with mirrored(url) as folder:
        (folder / "a").write_text("1")
        while left[0]:
            pass
    assert STORE.exists(f"{url}/a")
    assert "cannot upload" in caplog.text and "the network is gone" in caplog.text


def test_a_follower_sees_what_comes(url, tmp_path, monkeypatch):
    monkeypatch.setattr(object_store, "EVERY_S", 0.02)
    trainer = Mirror(url, tmp_path / "trainer")
    with refreshed(url) as folder:
        (tmp_path / "trainer").mkdir()
        (tmp_path / "trainer" / "a").write_text("1")
        trainer.upload()
        while not (folder / "a").exists():
            pass


def test_folders_and_files_of_this_machine_stay_as_they_are(tmp_path):
    with mirrored(tmp_path) as folder, written("a.json") as path:
        assert folder == tmp_path and path == "a.json"


def test_a_file_of_figures_is_uploaded(url):
    with written(f"{url}/figures.json") as path:
        os.makedirs(os.path.dirname(path))
        with open(path, "w") as file:
            file.write("{}")
    assert STORE.cat_file(f"{url}/figures.json") == b"{}"


def test_a_folder_is_uploaded_to_the_same_place_each_time(url):
    for text in ("1", "2"):
        with written(f"{url}/export") as path:
            os.makedirs(f"{path}/inner")
            for name in ("a", "inner/b"):
                with open(f"{path}/{name}", "w") as file:
                    file.write(text)
    names = {place.partition("/export/")[2] for place in STORE.find(f"{url}/export")}
    assert names == {"a", "inner/b"}
    assert STORE.cat_file(f"{url}/export/inner/b") == b"2"


def test_no_local_copy_leaves_the_folder_of_copies(tmp_path, monkeypatch):
    monkeypatch.setenv(object_store.CACHE_DIR, str(tmp_path))
    assert local_copy("gs://bucket/a/../../../etc") == tmp_path / "gs" / "bucket" / "a" / "etc"
    shutil.rmtree(tmp_path)
