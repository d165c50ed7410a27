"""Reserved rows of the item tables: in no draw, list, rank or baseline.

That training leaves them alone, on one device as on eight, is in test_step.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from negflax.data import history_batch
from negflax.evaluate import build_queries
from negflax.evaluate.baselines.markov import default_baselines
from negflax.evaluate.ranking import rank_scorers
from negflax.evaluate.scorer import model_scorer
from negflax.loss import candidates as sampling
from negflax.serve.scoring import list_function
from negflax.train.restore import scored_tables


def test_reserved_rows_are_not_sampled():
    num_rows, table_rows, key = 30, 60, jax.random.key(0)
    counts = np.arange(num_rows)
    alone, behind = (sampling.unigram(counts, 0.75, n) for n in (0, table_rows))
    assert len(behind.keep_V) == table_rows and np.isneginf(behind.log_p_V[num_rows:]).all()
    draws = [
        lambda rows, table: sampling.draw_uniform(key, rows, 500),
        lambda rows, table: sampling.draw_unigram(key, table, 500),
        lambda rows, table: sampling.in_batch(key, jnp.array([3, 0, 29]), table, rows, 500),
    ]
    for draw in draws:
        found, expected = jax.jit(draw)(jnp.int32(num_rows), behind), draw(num_rows, alone)
        np.testing.assert_array_equal(found.ids_S, expected.ids_S)
        np.testing.assert_allclose(found.log_q_S, expected.log_q_S, rtol=1e-6)
        assert found.ids_S.max() == num_rows - 1


def test_they_are_in_no_list_rank_or_baseline():
    sequences = tiny.make_sequences(reserved=21)
    trainer, _ = tiny.make_trainer(tiny.CONFIG, sequences, devices=8)
    state, num_rows = trainer.init(), sequences.catalogue.num_rows
    rows = state["tables"]["item"]["rows"]
    state["tables"]["item"]["rows"] = rows.at[num_rows:].set(1e3).at[num_rows:, 0].set(-1e3)
    plain = tiny.make_sequences()
    queries = build_queries(sequences, "test", 0, 0, "last_only")
    found = []
    for data in (sequences, plain):
        scorer = model_scorer(trainer.model, state, data, trainer.mesh, 8)
        scorers = {"model": scorer} | default_baselines(data, ("train",), 0)
        found.append(rank_scorers(scorers, queries, data, (False, True), 16, 10))
    for key, ranks in found[0].items():
        assert ranks.list_RK.max() < num_rows
        for name, values in vars(ranks).items():
            np.testing.assert_array_equal(values, getattr(found[1][key], name))
    batch = history_batch(sequences, queries.end_R, queries.user_R, 8)
    lists = list_function(trainer.model, trainer.mesh, 10)
    seen_RH = np.zeros((len(queries), 1), np.int32)
    listed_RK, score_RK = lists(state["dense"], scored_tables(trainer.model, state), batch, seen_RH)
    np.testing.assert_array_equal(listed_RK, found[0][False, "model"].list_RK)
    assert np.isfinite(score_RK).all()
