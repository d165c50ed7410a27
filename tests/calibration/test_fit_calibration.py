"""What is learned from a log, by cluster and creator."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from small_run import CONFIG, items, log, untrained

from negflax.calibration.fit_calibration import calibrate
from negflax.calibration.kind_terms import Scales, features, shift
from negflax.config import CalibrationConfig, ConfigError, LossConfig
from negflax.data import DataError
from negflax.data.sequences import build_sequences
from negflax.data.sources import RawData
from negflax.train.weights import init_sums

SETTINGS = CalibrationConfig(min_users=1)
SCALES = Scales(3, 5.0, 0.9)


def response(values):
    """What a dislike changes for a kind of which two events were seen."""
    stats = np.zeros((2, 8))
    stats[:, 0], stats[1, 1] = 2, 1
    calm, disliked = shift(values, features(stats, np.full(2, 9.0), SCALES, np), np)
    return float(disliked - calm)


def leaving(kind_I):
    """Feedback of users to whom a dislike ends a kind, given that of every item."""

    def feedback(user_E, item_E, rng):
        dislike_E, gone = np.zeros(len(user_E), bool), set()
        for event, user in enumerate(user_E):
            left = [kind for kind in np.unique(kind_I) if (user, kind) not in gone]
            kind = rng.choice(left)
            item_E[event] = 100 + rng.choice(np.flatnonzero(kind_I == kind))
            dislike_E[event] = len(left) > 2 and rng.random() < 0.15
            if dislike_E[event]:
                gone.add((user, kind))
        return {"item_id": item_E, "dislike": dislike_E, "like": ~dislike_E}

    return feedback


def test_a_log_in_which_everyone_leaves_what_they_dislike():
    cluster_I = np.array([x[0] for x in items()["cluster_ids"].to_pylist()])
    table = log(120, feedback=leaving(cluster_I))
    sequences = build_sequences(RawData(table, items(), "made up"), CONFIG)
    loss = dataclasses.replace(CONFIG.loss, objective="ssm")
    trained = untrained(sequences.catalogue, dataclasses.replace(CONFIG, loss=loss))
    settings = CalibrationConfig(kinds=("cluster",), min_users=5)
    found = calibrate(trained, sequences, init_sums("float32"), settings)
    assert response(found.values["cluster"]) < -2
    assert {row["status"] for row in found.report["rows"]} <= {"kept", "dropped", "no data"}
    without = dataclasses.replace(
        trained.catalogue,
        creator_V=0 * trained.catalogue.creator_V,
        clusters_VC=0 * trained.catalogue.clusters_VC,
    )
    with pytest.raises(DataError, match="cluster_ids or creator_id"):
        calibrate(
            dataclasses.replace(trained, catalogue=without),
            sequences,
            init_sums("float32"),
            SETTINGS,
        )


def test_what_creators_lose_is_not_the_clusters():
    creator_I = np.asarray(items()["creator_id"])
    clusters = pa.array([[int(x) // 2] for x in creator_I])
    nested = items().set_column(2, "cluster_ids", clusters)

    sequences = build_sequences(
        RawData(log(120, feedback=leaving(creator_I)), nested, "made up"), CONFIG
    )
    loss = dataclasses.replace(CONFIG.loss, objective="ssm")
    trained = untrained(sequences.catalogue, dataclasses.replace(CONFIG, loss=loss))

    def responses(*kinds):
        settings = CalibrationConfig(kinds=kinds, min_users=5)
        values = calibrate(trained, sequences, init_sums("float32"), settings).values
        return [response(values[kind]) if kind in values else 0.0 for kind in kinds]

    (alone,) = responses("cluster")
    cluster, creator = responses("cluster", "creator")
    assert alone < -0.3 and creator < -1.5
    assert abs(cluster) < abs(alone) / 2


def test_items_that_share_one_kind_are_not_told_apart_by_it(caplog):
    sequences = build_sequences(RawData(log(120), items(), "made up"), CONFIG)
    trained = untrained(sequences.catalogue)
    one = np.minimum(trained.catalogue.clusters_VC, 1)
    one[1:, 0] = 1
    trained = dataclasses.replace(
        trained, catalogue=dataclasses.replace(trained.catalogue, clusters_VC=one)
    )
    sums = init_sums("float32")
    found = calibrate(trained, sequences, sums, CalibrationConfig(min_users=5, omega=1.0))
    assert "cluster" not in found.values and "all items have one cluster" in caplog.text
    with pytest.raises(DataError, match="items do not differ by cluster"):
        calibrate(trained, sequences, sums, CalibrationConfig(kinds=("cluster",)))


@pytest.mark.parametrize("objective", ["negative_weight", "focal"])
def test_a_fit_that_only_the_prior_ends_is_refused(objective):
    sequences = build_sequences(RawData(log(120), items(), "made up"), CONFIG)
    loss = LossConfig(objective=objective, weight_policy="constant", w=1000.0)
    trained = untrained(sequences.catalogue, dataclasses.replace(CONFIG, loss=loss))
    trained = dataclasses.replace(trained, step=10_000)
    with pytest.raises(ConfigError, match=rf"'{objective}' .*config\.calibration\.omega"):
        calibrate(trained, sequences, init_sums("float32"), SETTINGS)
