"""Histories with items outside the vocabulary: in no list, rank, mask or baseline."""

import dataclasses

import numpy as np

from negflax.data import Sequences
from negflax.evaluate import build_queries
from negflax.evaluate.baselines.filters import block_creator, drop_disliked
from negflax.evaluate.baselines.markov import default_baselines, markov_scorer
from negflax.evaluate.baselines.popularity import (
    popularity_scorer,
)
from negflax.evaluate.ranking import rank_scorers
from negflax.evaluate.replay import replay_queries
from negflax.evaluate.report.examples import line_of
from negflax.evaluate.slices import negative_strata


def with_unknown(s, every=3):
    """The same events, and behind each third one another on an unknown item, disliked."""
    place = np.arange(0, len(s.item_E), every) + 1
    more = {
        f.name: np.insert(getattr(s, f.name), place, 0)
        for f in dataclasses.fields(Sequences)
        if f.name.endswith("_E") and getattr(s, f.name) is not None
    }
    new = np.insert(np.zeros(len(s.item_E), bool), place, True)
    more["split_E"] = np.insert(s.split_E, place, s.split_E[place - 1])
    more["dislike_E"] = np.where(new, 2, more["dislike_E"])
    more["bucket_E"] = np.where(new, s.catalogue.num_rows + 1, 0)
    more["random_E"] = np.full(len(new), 2, np.uint8)
    users = len(s.user_ids)
    user_E = np.repeat(np.arange(users), np.diff(s.offsets_U1))
    user_E = np.insert(user_E, place, user_E[place - 1])
    offsets_U1 = np.searchsorted(user_E, np.arange(users + 1))
    catalogue = dataclasses.replace(s.catalogue, bucket_rows=2)
    return dataclasses.replace(s, catalogue=catalogue, offsets_U1=offsets_U1, **more)


def test_unknown_items_change_no_rank_of_scorers_that_do_not_read_them(log):
    ranks = []
    for sequences in (log, with_unknown(log)):
        queries = build_queries(sequences, "test", 0, 0, "last_only")
        scorers = default_baselines(sequences, ("train",), 0)
        for name, wrap in (("drop", drop_disliked), ("block", block_creator)):
            scorers[name] = wrap(scorers["popularity"], sequences)
        ranks.append(rank_scorers(scorers, queries, sequences, (False, True), 64, 10))
        ranks[-1]["strata"] = negative_strata(sequences, queries)
    plain, unknown = ranks
    np.testing.assert_array_equal(plain.pop("strata"), unknown.pop("strata"))
    for key in plain:
        # These read the last items, and give popularity where they are unknown.
        if key[1] not in ("markov", "markov_5"):
            for name, values in vars(plain[key]).items():
                np.testing.assert_array_equal(values, getattr(unknown[key], name), f"{key} {name}")
    assert unknown[True, "markov"].list_RK.max() < log.catalogue.num_rows


def test_markov_knows_no_transition_from_them(log):
    sequences = with_unknown(log, every=1)  # every history ends with one
    queries = build_queries(sequences, "test", 0, 0, "last_only")
    scores_RV = np.asarray(markov_scorer(sequences, ("train",))(queries))
    popular_V = popularity_scorer(sequences, ("train",))(queries)[0]
    np.testing.assert_array_equal(
        scores_RV.argsort(axis=1, kind="stable"), [popular_V.argsort(kind="stable")] * len(queries)
    )


def test_an_unknown_item_that_was_shown_randomly_is_not_replayed(log):
    sequences = with_unknown(log)
    assert (replay_queries(sequences, "test").judged_item_J > 0).all()


def test_the_report_does_not_name_another_item(log):
    assert line_of(log.catalogue, 0, "liked").name == "an item unknown to the run"
