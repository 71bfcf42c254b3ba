"""A corpus that is larger than memory or disk, as an endless stream of clips, shuffled in blocks.

The stream passes over the corpus again and again, each time with its files in another order, and shuffles blocks of
`block_size` clips. So clip number `i` is a function of the seed: a resumed run reads the rows up to where it was,
without decoding them, and continues with the same clips.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from datasets import IterableDataset

from .rows import Clip, checked_corpus, clip_of_row, open_dataset


def open_stream(path: str) -> IterableDataset:
    """The rows of a corpus, from a folder or the Hub, which are read when they are needed.

    Raises:
        ValueError: there is no dataset, or a column is missing.
    """
    return checked_corpus(open_dataset(path, streaming=True), path).with_format("numpy")


class StreamedCorpus(NamedTuple):
    """A stream of rows, and which of them to train on."""

    dataset: IterableDataset  # see `open_stream`
    wanted: Callable[[dict], bool]


class ClipStream:
    """An endless sequence of clips in an order that the seed decides; one block of them is in memory.

    Args:
        dataset (`IterableDataset`), wanted (callable): as in [`StreamedCorpus`].
        block_size (`int`): clips that are shuffled at once.
        seed (`int`): of the order.

    Raises:
        ValueError: no row is wanted.
    """

    def __init__(self, dataset: IterableDataset, wanted: Callable[[dict], bool], block_size: int, seed: int):
        if not isinstance(block_size, int) or block_size < 1:
            raise ValueError(f"The block size of a stream is {block_size!r}; it must be a whole number, 1 or more.")
        self.dataset, self.wanted, self.block_size, self.seed = dataset, wanted, block_size, seed
        self._restart()

    def __getitem__(self, number: int) -> Clip:
        if number < self.first:
            self._restart()
        while number >= self.first + len(self.block):
            self.first += len(self.block)
            self.block = next(self.blocks)
            self.order = np.random.default_rng([self.seed, self.first]).permutation(len(self.block))
        return clip_of_row(self.block[self.order[number - self.first]])

    def _restart(self):
        self.blocks, self.block, self.first = self._read(), [], 0

    def _read(self) -> Iterator[list[dict]]:
        files = self.dataset.n_shards
        for epoch in itertools.count():
            order = np.random.default_rng([self.seed, epoch]).permutation(files).tolist()
            parts = (self.dataset.shard(num_shards=files, index=index) for index in order)
            rows = filter(self.wanted, itertools.chain.from_iterable(parts))
            empty = True
            while block := list(itertools.islice(rows, self.block_size)):
                empty = False
                yield block
            if empty:
                raise ValueError(
                    "No row of the corpus is left to train on: check its `source` column, `batches.crops` and what is "
                    "held out."
                )
