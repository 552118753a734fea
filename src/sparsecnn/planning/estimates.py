"""What jobs will take: seconds from recorded benchmarks of Snakemake's, or from measured rates.

What neither knows stays unknown.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparsecnn.errors import UserError
from sparsecnn.planning.jobs import Job, ordered

TRAIN_RATES: Mapping[tuple[str, int, str], Mapping[str, float]] = {
    ("AMD EPYC", 2, "float32"): {"custom_cnn": 477, "vgg16": 168, "resnet18": 114},
    ("AMD EPYC", 2, "bfloat16"): {"custom_cnn": 891, "vgg16": 295, "resnet18": 201},
}
"""Images that a training passes in a second at full width, by device, threads, format and model.

Measured: docs/results/2026-11-26-bfloat16-training-cpu.
"""


@dataclass(frozen=True)
class Images:
    """How many images a study has, and the bytes of one."""

    train: int
    test: int
    bytes_each: int


CIFAR = Images(train=50_000, test=10_000, bytes_each=3 * 32 * 32)


def estimate(
    jobs: Sequence[Job], folder: Path, rate: Callable[[Job], float | None]
) -> pd.DataFrame:
    """The jobs of a study, also those that are done, and their seconds: a table in running order.

    A job's own benchmark comes first, then the median of its likes: same rule, model, variant;
    without the variant; the rule alone. Trainings are compared by their seconds per epoch. Without
    any, a training may have a measured rate.

    Parameters
    ----------
    jobs
        Each with an output.
    folder
        That benchmarks' paths start from.
    rate
        Seconds of an epoch of a training by a measured rate, or None.

    Returns
    -------
    pandas.DataFrame
        A row for each job, named by its first output: `rule`, `model`, `variant` (pruned) and
        `network` (evaluated), each text or missing; `epochs` (1 of what does not train),
        `threads` and `gpu`, integers; `benchmark`, a path or empty; `seconds`, NaN where nothing
        is known; `source` of the seconds: recorded, rate or empty.
    """
    jobs = ordered(jobs)
    table = pd.DataFrame(
        [{**job.wildcards, **vars(job), "epochs": job.epochs} for job in jobs],
        index=[job.outputs[0] for job in jobs],
        columns=["rule", "model", "variant", "network", "epochs", "threads", "gpu", "benchmark"],
    )
    recorded = table["benchmark"].map(lambda name: read_benchmark(folder / name))
    by_rate = pd.Series([rate(job) for job in jobs], table.index, dtype=float)

    def of_likes(*columns: str) -> pd.Series:
        likes = (recorded / table["epochs"]).groupby([table[c] for c in columns], dropna=False)
        return likes.transform("median")

    per_epoch = of_likes("rule", "model", "variant", "network").fillna(of_likes("rule", "model"))
    # Models differ too much to stand in for each other where they are trained.
    per_epoch = per_epoch.fillna(of_likes("rule").mask(table["rule"] == "train"))
    return table.assign(
        seconds=recorded.fillna(per_epoch.fillna(by_rate) * table["epochs"]),
        source=np.select([per_epoch.notna(), by_rate.notna()], ["recorded", "rate"], ""),
    )


def read_benchmark(path: Path) -> float:
    """Mean of column `s`, the seconds, in a benchmark of Snakemake's; NaN if there is none.

    The file may be missing, or empty as a killed job leaves it; `UserError` if it is another kind.
    """
    if not path.is_file() or not path.stat().st_size:
        return np.nan
    try:
        table = pd.read_table(path, usecols=["s"], index_col=False, dtype=float, na_filter=False)
    except ValueError:
        raise UserError(f"{path}: no benchmark of Snakemake's (column s); delete it") from None
    return float(table["s"].mean())


def epoch_seconds(
    job: Job, *, device: str, precision: str, config: Mapping[str, Any], images: Images | None
) -> float | None:
    """Seconds of an epoch of a training by its measured rate, or None where none was measured.

    `precision` is the number format of trainings, float32 or bfloat16.
    """
    if job.rule != "train" or images is None:
        return None
    model = job.wildcards["model"]
    rate = TRAIN_RATES.get((device, job.threads, precision), {}).get(model)
    if rate is None or config["models"][model]["width"] != 1:
        return None
    return images.train / rate
