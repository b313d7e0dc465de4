"""TensorFlow Datasets: how a data set is opened, and how its rows are read."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from tqdm import tqdm


def open_builder(name: str, data_dir: str | Path | None = None) -> Any:
    """The builder of a data set that is ready to be read.

    Args:
        name: The name of the data set, with its configuration if it has several.
        data_dir: A TFDS folder in which the data set is prepared already; nothing is downloaded.
            By default TFDS's own folder, into which it downloads what is missing.

    Raises:
        FileNotFoundError: If `data_dir` lacks the data set; the message says how to get it.
        ValueError: If TFDS has no such data set.
    """
    import tensorflow_datasets as tfds

    where = {"data_dir": str(data_dir)} if data_dir is not None else {}
    known = tfds.list_builders()
    if name.partition("/")[0].partition(":")[0] not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"TensorFlow Datasets has no data set {name!r}.{hint}")
    try:
        builder = tfds.builder(name, **where)
    except tfds.core.DatasetNotFoundError as error:
        raise FileNotFoundError(_how_to_get(name, data_dir)) from error
    if data_dir is None:
        builder.download_and_prepare()
    elif not builder.is_prepared():
        raise FileNotFoundError(_how_to_get(name, data_dir))
    return builder


def shown(builder: Any, part: str, *keys: str) -> Any:
    """The rows of a part, of each the features `keys` as NumPy arrays.

    There is a progress bar where someone is watching.
    """
    import tensorflow_datasets as tfds

    # What is not asked for is left out before it becomes NumPy: that is where the time goes.
    rows = builder.as_dataset(split=part).map(lambda row: {key: row[key] for key in keys})
    size = builder.info.splits[part].num_examples
    return tqdm(
        tfds.as_numpy(rows),
        desc=f"reading {builder.name} {part}",
        total=size,
        disable=None,
        leave=False,
    )


def _how_to_get(name: str, data_dir: str | Path | None) -> str:
    return (
        f"The folder {data_dir} lacks the data set {name!r}. Leave `data_dir` out to have it "
        "downloaded, or prepare it there first: "
        f"python -c \"import tensorflow_datasets as tfds; tfds.load('{name}', data_dir='{data_dir}')\""
    )
