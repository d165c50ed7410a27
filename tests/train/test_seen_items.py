"""Which items a state's user has had: those of the user's earlier steps in the row."""

import jax.numpy as jnp
import tiny

from negflax.data import StreamBatches
from negflax.train.objective import seen_items


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
