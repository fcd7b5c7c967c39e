"""Map-style Datasets: rows made one by one, by the worker processes of their DataLoader if it has any.

A Dataset may draw random numbers for a row (crops, flips). Each chunk starts the generators from a seed of its own, so
that the same run makes the same rows, with any number of workers, also where it goes on from a checkpoint.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyro
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from ..inputs.chunks import parts_of
from ..inputs.datasets import collate_of, refuse_own_order
from ..runtime.traced import first_line
from .order import generator, seed_of
from .part import NotRead, Part

MOST = 256  # rows of a chunk: each worker makes one


def is_map_style(value: Any) -> bool:
    """Whether this is a Dataset, or its DataLoader, whose rows are not tensors in memory already."""
    dataset = value.dataset if isinstance(value, DataLoader) else value
    if not isinstance(dataset, Dataset) or isinstance(dataset, IterableDataset | TensorDataset):
        return False
    in_memory = isinstance(dataset, Subset) and isinstance(dataset.dataset, TensorDataset)
    return not in_memory and hasattr(dataset, "__len__") and len(dataset) > 0


def of_dataset(value: Any) -> Part:
    """The rows of a map-style Dataset or of its DataLoader, whose workers and `collate_fn` make the chunks."""
    loader = value if isinstance(value, DataLoader) else None
    if loader is not None:
        refuse_own_order(loader)
    dataset: Any = value if loader is None else loader.dataset
    collate, noun = collate_of(value), type(dataset).__name__

    def stream(slices: Sequence[slice], seed: int | None) -> Iterator[tuple[Any, ...]]:
        batches = [list(range(rows.start, rows.stop)) for rows in slices]
        rows_of = _Seeded(dataset, seed)
        chunks: Iterator[Any]
        workers = 0 if loader is None or len(slices) < 2 else loader.num_workers
        if workers:
            assert loader is not None
            chunks = iter(
                DataLoader(
                    rows_of,
                    batch_sampler=batches,
                    num_workers=min(workers, len(slices)),
                    collate_fn=collate,
                    worker_init_fn=loader.worker_init_fn,
                    multiprocessing_context=loader.multiprocessing_context,
                    timeout=loader.timeout,
                    prefetch_factor=loader.prefetch_factor,
                    generator=generator(0 if seed is None else seed),  # torch's own would be drawn from otherwise
                )
            )
        else:
            chunks = (collate(rows_of.__getitems__(batch)) for batch in batches)
        for rows in slices:
            try:
                chunk = next(chunks)
            except Exception as error:  # of the user's own program
                place = f"data: rows {rows.start:,} to {rows.stop - 1:,} of {noun}"
                raise NotRead(f"{place} cannot be read ({_words(error)})") from error
            if isinstance(chunk, Mapping):
                raise NotRead(f"data: the rows of {noun} are dictionaries, wanted tuples: {list(chunk)}")
            yield parts_of(chunk)

    apart = loader is not None and loader.num_workers > 0
    return Part(noun, len(dataset), stream, most=MOST, runs=True, apart=apart)


def _words(error: Exception) -> str:
    """What an error says; of one in a worker process, whose words are those of a traceback, the last line."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines and lines[0].startswith("Caught ") else first_line(error)


class _Seeded(Dataset):
    """A Dataset whose random numbers depend on the seed and on the chunk alone. It is a class to be sent to workers."""

    def __init__(self, dataset: Any, seed: int | None) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        return self.dataset[row]

    def __getitems__(self, rows: list[int]) -> list[Any]:
        if self.seed is not None:
            pyro.util.set_rng_seed(seed_of(self.seed, rows[0]))
        if hasattr(self.dataset, "__getitems__"):
            return list(self.dataset.__getitems__(rows))
        return [self.dataset[row] for row in rows]
