"""Which items a state's user has had: those of the user's earlier steps in the row."""

import jax.numpy as jnp
import tiny

from negflax.data import StreamBatches
from negflax.train.objective import seen_items
from negflax.train.step_metrics import label_sums


def test_seen_items_are_those_of_the_same_user_up_to_the_state():
    batches = StreamBatches(
        tiny.make_sequences(), tiny.CONFIG.batch, tiny.CONFIG.labels, ("train",)
    )
    batch = batches.batch(0)
    rows, steps = batch.item_ids_BT.shape
    seen_BTM = seen_items(batch._replace(item_ids_BT=jnp.asarray(batch.item_ids_BT)))
    seen_BTM = seen_BTM.reshape(rows, steps, -1)
    for b in range(rows):
        had = set()
        for t in range(steps):
            had = set() if batch.reset_BT[b, t] else had
            had |= {int(batch.item_ids_BT[b, t])} - {0}
            assert set(seen_BTM[b, t].tolist()) - {-1} == had


def test_labels_that_had_no_other_item_do_not_enter_the_mean_p():
    margins = jnp.array([[jnp.inf], [0.0], [jnp.inf]])
    present, w = jnp.ones((3, 1), bool), jnp.ones((3, 1))
    sums = label_sums(margins, present, 1 - w, w)
    assert sums["negatives"] == 1 and sums["p_negative"] == 0.5
    assert jnp.isfinite(sums["loss_negative"])
