"""What benchmarks/input_pipeline.py compares: the same rows of T steps, read by other libraries.

Each peer gets the rows ready made, features and labels gathered and without padding, in a random
order; it reads them one by one and stacks B of them, which is what these libraries do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from negflax.data import Batch, StreamBatches

Rows = dict[str, np.ndarray]


def rows_of(batches: StreamBatches, num: int) -> Rows:
    """The first `num` batches, row by row."""
    parts = [batches.batch(i) for i in range(num)]
    return {name: np.concatenate([getattr(p, name) for p in parts]) for name in Batch._fields}


def tfds_source(rows: Rows, folder: Path) -> Any:
    """The rows as a tensorflow-datasets data source over ArrayRecord files."""
    import tensorflow_datasets as tfds

    class Rows(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Rows of steps."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            features = {
                name: tfds.features.Tensor(
                    shape=column.shape[1:], dtype=column.dtype, encoding="bytes"
                )
                for name, column in rows.items()
            }
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager: Any) -> Any:
            return {"train": self._generate_examples()}

        def _generate_examples(self) -> Any:
            for i in range(len(rows["item_ids_BT"])):
                yield i, {name: column[i] for name, column in rows.items()}

    builder = Rows(data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare()
    return builder.as_data_source(split="train")


def tfds(rows: Rows, folder: Path, size: int) -> Iterator[Any]:
    """tensorflow-datasets, as_data_source."""
    source = tfds_source(rows, folder)
    while True:
        order = np.random.default_rng(0).permutation(len(source))
        for start in range(0, len(order) - size + 1, size):
            examples = [source[int(i)] for i in order[start : start + size]]
            yield {name: np.stack([example[name] for example in examples]) for name in rows}


def grain(rows: Rows, folder: Path, size: int) -> Iterator[Any]:
    """Grain over the tensorflow-datasets source."""
    import grain as library

    source = tfds_source(rows, folder)
    data = library.MapDataset.source(source).seed(0).shuffle().repeat()
    options = library.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return iter(data.batch(size, drop_remainder=True).to_iter_dataset(options))


def torch_dataloader(rows: Rows, folder: Path, size: int) -> Iterator[Any]:
    """torch.utils.data.DataLoader over memory-mapped arrays."""
    from torch.utils import data

    folder.mkdir(parents=True, exist_ok=True)
    mapped = {}
    for name, column in rows.items():
        np.save(folder / f"{name}.npy", column)
        mapped[name] = np.load(folder / f"{name}.npy", mmap_mode="r")

    class Mapped(data.Dataset):
        def __len__(self) -> int:
            return len(rows["item_ids_BT"])

        def __getitem__(self, i: int) -> dict[str, np.ndarray]:
            return {name: np.array(column[i]) for name, column in mapped.items()}

    loader = data.DataLoader(Mapped(), batch_size=size, shuffle=True, drop_last=True)
    while True:
        yield from loader


PEERS: dict[str, Callable[[Rows, Path, int], Iterator[Any]]] = {
    "tfds": tfds,
    "grain": grain,
    "torch_dataloader": torch_dataloader,
}
