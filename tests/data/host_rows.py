"""One of two hosts: `host_rows.py NUMBER PORT` puts its rows of a batch on its two devices."""

import sys

import jax
import numpy as np
import pyarrow as pa

from negflax import mesh as meshes
from negflax.config import BatchConfig, Config, DataConfig, LabelConfig, MeshConfig
from negflax.data import RawData, StreamBatches, build_sequences


def main(number, port):
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 2)
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, number)
    user = np.repeat(np.arange(9), 5)
    events = pa.table(
        {
            "user_id": user,
            "item_id": np.arange(45) % 7,
            "pos": np.arange(45),
            "split": np.where(np.arange(45) % 5 == 4, "test", "train"),
            "like": np.ones(45, bool),
        }
    )
    config = Config(data=DataConfig(split="column", valid_fraction=0.0))
    labels = LabelConfig(positive=("like",), negative=())
    config = Config(data=config.data, labels=labels)
    sequences = build_sequences(RawData(events, None, "log"), config)
    shape = BatchConfig(rows=8, length=3)
    whole = StreamBatches(sequences, shape, labels, ("train",), requests=True).batch(0)
    host = jax.process_index(), jax.process_count()
    mine = StreamBatches(sequences, shape, labels, ("train",), host, True).batch(0)
    sharding = meshes.split(meshes.make_mesh(MeshConfig()))
    for local, expected in zip(mine, whole, strict=True):
        array = jax.make_array_from_process_local_data(sharding, local)
        assert array.shape == expected.shape
        for shard in array.addressable_shards:
            assert np.array_equal(shard.data, expected[shard.index])
    print(host, "ok")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
