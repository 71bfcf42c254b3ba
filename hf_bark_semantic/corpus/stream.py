"""A corpus that is larger than memory or disk, as an endless stream of clips, shuffled in blocks.

The stream passes over the corpus again and again, each time with its files in another order, and shuffles blocks of
`block_size` clips. Several readers (processes, and workers in each) divide the files of every pass among themselves,
so that one of them reads each row. The seed determines the sequence of a reader's clips: a resumed run skips the rows
that it has used, without decoding them, and continues with the same clips.
"""

import itertools
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from datasets import IterableDataset

from .rows import Clip, checked_corpus, clip_of_row, open_dataset


def open_stream(path: str) -> IterableDataset:
    """Open a corpus (a folder, on the Hub or in an object store) whose rows are read when they are needed.

    Raises:
        ValueError: there is no dataset, or a column is missing.
    """
    return checked_corpus(open_dataset(path, streaming=True), path).with_format("numpy")


class StreamedCorpus(NamedTuple):
    """A stream of rows, and a function that selects those to train on."""

    dataset: IterableDataset  # see `open_stream`
    wanted: Callable[[dict], bool]


class ClipStream:
    """An endless sequence of a reader's clips, in an order that the seed determines; one block is in memory.

    Where there are fewer files than readers, several readers read the same file, and each takes some of its rows.

    Args:
        dataset (`IterableDataset`), wanted (callable): as in [`StreamedCorpus`].
        block_size (`int`): clips that are shuffled at once.
        seed (`int`): determines the order.
        reader (`int`), num_readers (`int`): the number of this reader, and of all readers.

    Raises:
        ValueError: no row is selected.
    """

    def __init__(
        self,
        dataset: IterableDataset,
        wanted: Callable[[dict], bool],
        block_size: int,
        seed: int,
        *,
        reader: int = 0,
        num_readers: int = 1,
    ):
        if not isinstance(block_size, int) or block_size < 1:
            raise ValueError(f"The block size of a stream is {block_size!r}; it must be a whole number, 1 or more.")
        self.dataset, self.wanted, self.block_size, self.seed = dataset, wanted, block_size, seed
        self.reader, self.num_readers = reader, num_readers
        if dataset.n_shards < num_readers:
            warnings.warn(
                f"The corpus has {dataset.n_shards} files for {num_readers} readers (processes times workers), so "
                f"some read the same file. Save it in {num_readers} files or more, or use fewer workers.",
                stacklevel=2,
            )
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
        for epoch in itertools.count():
            rows = filter(self.wanted, self._rows(epoch))
            empty = True
            while block := list(itertools.islice(rows, self.block_size)):
                empty = False
                yield block
            if empty:
                one = "No row" if self.num_readers == 1 else f"For reader {self.reader} of {self.num_readers} no row"
                raise ValueError(
                    f"{one} of the corpus is left to train on: check its `source` column, `batches.crops`, what is "
                    "held out and, with several processes or workers, that there are enough files."
                )

    def _rows(self, epoch: int) -> Iterator[dict]:
        """The rows of this reader in one pass."""
        num_files = self.dataset.n_shards
        order = np.random.default_rng([self.seed, epoch]).permutation(num_files).tolist()
        first, sharers = self.reader % num_files, range(self.reader % num_files, self.num_readers, num_files)
        for index in order[first :: self.num_readers]:
            file = self.dataset.shard(num_shards=num_files, index=index)
            for row in itertools.islice(file.iter(1), sharers.index(self.reader), None, len(sharers)):
                yield {name: values[0] for name, values in row.items()}  # `iter(file)` would divide it among workers
