"""Parameters from a checkpoint onto other devices, whole or the tables alone, or from the next."""

import dataclasses
import gc
import shutil

import jax
import numpy as np
import pytest
import tiny

from negflax.config import MeshConfig
from negflax.mesh import make_mesh
from negflax.train.checkpoint import CheckpointError, write_config
from negflax.train.loop import open_checkpoints, train
from negflax.train.restore import CATALOGUE, load_tables, load_trained, save_catalogue

SEQUENCES = tiny.make_sequences()
ROWS = SEQUENCES.catalogue.num_rows


def mesh(devices):
    return make_mesh(MeshConfig(), jax.devices()[:devices])


@pytest.fixture(scope="module", params=[8, 1])
def saved(request, tmp_path_factory):
    """(folder of a run with checkpoint 1, its state), written from that many devices."""
    folder = tmp_path_factory.mktemp("run")
    write_config(folder, tiny.CONFIG)
    SEQUENCES.catalogue.save(folder / CATALOGUE)
    trainer = tiny.make_trainer(tiny.CONFIG, SEQUENCES, request.param)[0]
    state = trainer.init() | {"step": jax.numpy.int32(1)}
    checkpoints = open_checkpoints(tiny.CONFIG, folder, trainer.model)
    checkpoints.save(1, state, None)
    checkpoints.close()
    return folder, jax.device_get(state)


@pytest.mark.parametrize("devices", [1, 8])
def test_parameters_and_tables_alone_onto_other_devices(saved, devices):
    folder, state = saved
    trained = load_trained(folder, "latest", mesh(devices))
    tables, catalogue, step = load_tables(folder, "latest", mesh(devices))
    jax.tree.map(
        np.testing.assert_array_equal, jax.device_get(trained.state["dense"]), state["dense"]
    )
    assert (step, catalogue.item_ids.tolist()) == (1, SEQUENCES.catalogue.item_ids.tolist())
    assert set(tables) == set(state["tables"]) == {"item", "creator", "cluster"}
    for name, rows in tables.items():
        assert rows.sharding.mesh.size == devices
        real = trained.model.tables[name].num_rows
        for found in (rows, trained.state["tables"][name]["rows"]):
            np.testing.assert_array_equal(found[:real], state["tables"][name]["rows"][:real])


def test_another_checkpoint_takes_the_same_model(saved):
    folder, _ = saved
    first = load_trained(folder, "1", mesh(1))
    assert load_trained(folder, "1", mesh(1), first.model).model is first.model


def test_orbax_logs_nothing_about_a_read_only_folder(saved, caplog):
    folder, *_ = saved
    load_trained(folder, "1", mesh(1))
    assert not [record for record in caplog.records if "orbax" in record.pathname]


@pytest.fixture(scope="module")
def trainer():
    return tiny.make_trainer(tiny.CONFIG, SEQUENCES)


@pytest.fixture(scope="module")
def whole(trainer, tmp_path_factory):
    """A run with checkpoints 1, the best, 2 and 3; all of the same parameters."""
    folder = tmp_path_factory.mktemp("run")
    write_config(folder, tiny.CONFIG)
    save_catalogue(folder, SEQUENCES.catalogue)
    checkpoints = open_checkpoints(tiny.CONFIG, folder, trainer[0].model)
    state = trainer[0].init()
    for step, quality in ((1, 0.3), (2, 0.2), (3, 0.1)):
        new = state | {"step": jax.numpy.int32(step)}
        checkpoints.save(step, new, {tiny.CONFIG.train.metric: quality})
    checkpoints.close()
    return folder


@pytest.fixture
def run(whole, tmp_path):
    """A copy to break."""
    yield shutil.copytree(whole, tmp_path / "run")
    gc.collect()  # the arrays that Orbax did not get to read, while their warning is expected


def damage(folder, step):
    """Zeros in the largest file, which holds the arrays."""
    files = (folder / "checkpoints" / str(step) / "state").rglob("*")
    largest = max((f for f in files if f.is_file()), key=lambda f: f.stat().st_size)
    largest.write_bytes(bytes(largest.stat().st_size))


# Orbax leaves the arrays that it did not get to read without an owner.
orphans = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@orphans
@pytest.mark.parametrize(
    ("which", "broken", "step"),
    [
        ("latest", [3], 2),
        ("latest", [3, 2], 1),
        ("best", [1], 3),
        ("latest", [], 3),
        ("best", [], 1),
    ],
)
def test_falls_back_and_says_so(run, caplog, which, broken, step):
    """Of the best, the next best: 2 was deleted by the trainer, as neither best nor newest."""
    for one in broken:
        damage(run, one)
    if which == "best":
        shutil.rmtree(run / "checkpoints" / "2")
    assert load_trained(run, which, mesh(1)).step == step
    text = caplog.text
    assert ("falling back" in text) == bool(broken)
    for one in broken:
        assert f"checkpoints/{one} cannot be restored" in text
    assert f"the checkpoint of step {step}" in text or not broken


@orphans
def test_a_step_named_by_its_number_has_no_substitute(run):
    damage(run, 3)
    with pytest.raises(CheckpointError, match="3 cannot be restored"):
        load_trained(run, "3", mesh(1))
    for step in (1, 2):
        damage(run, step)
    with pytest.raises(CheckpointError, match="3 cannot be restored"):  # the one that was asked for
        load_trained(run, "latest", mesh(1))


@orphans
@pytest.mark.parametrize("seed", range(4))
def test_damage_of_any_file_never_gives_other_parameters(run, seed):
    """A flipped bit, a cut, a deletion, noise: the same parameters from here or from step 2."""
    expected = load_trained(run, "2", mesh(1))
    rng = np.random.default_rng(seed)
    for path in [p for p in sorted((run / "checkpoints/3").rglob("*")) if p.is_file()]:
        content = path.read_bytes()
        bits = np.frombuffer(content, np.uint8).copy()
        bits[rng.integers(len(bits)) :][:1] ^= np.uint8(1 << rng.integers(8))
        noise = rng.bytes(len(content))
        path.write_bytes([bits.tobytes(), content[: len(content) // 2], b"", noise][seed])
        found = load_trained(run, "latest", mesh(1), expected.model)
        assert found.step in (2, 3)
        jax.tree.map(np.testing.assert_array_equal, found.state, expected.state)
        path.write_bytes(content)


@orphans
def test_a_resumed_run_moves_unreadable_checkpoints_away(run, trainer):
    damage(run, 3)
    outcome = train(tiny.CONFIG, *trainer, 4, run)
    assert outcome.step == 4
    assert [p.name for p in (run / "unreadable").iterdir()] == ["3"]
    assert open_checkpoints(tiny.CONFIG, run, read_only=True).steps() == [1, 2, 4]


def test_another_vocabulary_is_refused(run):
    items = SEQUENCES.catalogue.item_ids
    for other in (items + 1, items[::-1].copy(), items[:-2]):
        swapped = dataclasses.replace(SEQUENCES.catalogue, item_ids=other)
        if len(other) < len(items):
            with pytest.raises(CheckpointError, match="has 0 items that it lacks and lacks 2 of"):
                save_catalogue(run, swapped)
        swapped.save(run / CATALOGUE)
        with pytest.raises(CheckpointError, match="vocabulary .*catalogue.npz belongs to another"):
            load_trained(run, "latest", mesh(1))
        SEQUENCES.catalogue.save(run / CATALOGUE)


def test_files_beside_the_checkpoints(run):
    (run / "config.json").write_text('{"format_version": 1')
    with pytest.raises(CheckpointError, match="config.json is damaged"):
        load_trained(run, "latest", mesh(1))
    write_config(run / "other", tiny.CONFIG)
    (run / "other" / "config.json").rename(run / "config.json")
    (run / CATALOGUE).unlink()
    with pytest.raises(ValueError, match="catalogue.npz does not exist"):
        load_trained(run, "latest", mesh(1))


def test_a_damaged_catalogue_is_built_again_from_the_data(run, caplog):
    (run / CATALOGUE).write_bytes(b"PK\3\4 cut off")
    save_catalogue(run, SEQUENCES.catalogue)
    assert "built again from the data" in caplog.text
    assert load_trained(run, "latest", mesh(1)).step == 3
    (run / CATALOGUE).write_bytes(b"")
    other = dataclasses.replace(SEQUENCES.catalogue, item_ids=SEQUENCES.catalogue.item_ids + 1)
    save_catalogue(run, other)  # what lies there does not tell; the checkpoints do
    with pytest.raises(CheckpointError, match="catalogue.npz belongs to another run"):
        load_trained(run, "latest", mesh(1))


@orphans
def test_if_all_are_damaged_the_error_names_a_remedy(run):
    for step in (1, 2, 3):
        damage(run, step)
    with pytest.raises(CheckpointError, match="none of the 3 checkpoints .* from a copy; or move"):
        load_trained(run, "latest", mesh(1))
