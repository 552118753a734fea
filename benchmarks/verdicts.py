"""How often verdicts on claims are right and wrong, and intervals hold the truth, in simulation.

A study is the effects of six comparisons for each of some seeds. Their spread over seeds is equal,
or differs as that of magnitude pruning does; it is normally distributed, or has heavy tails
(Student's t with three degrees of freedom); a part of it is common to the comparisons of a seed.

    python benchmarks/verdicts.py
"""

import argparse
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sparsecnn.analysis.comparisons import CONTRADICTED, NO_EFFECT, REPRODUCED, verdict
from sparsecnn.analysis.statistics import mean_over_seeds, p_same_effect

SPREADS = {
    "equal": [1.0] * 6,
    # Of SparseGPT minus magnitude pruning, in points, from the least to the most that was found.
    "as found": [0.6, 3.0, 5.0, 6.0, 11.0, 13.0],
}
EFFECTS = np.array([-10, -4, -1, 1, 4, 10.0])
"""True effects of the comparisons, which are zero on average."""


def main() -> None:
    """Print a table: a row for each number of seeds, kind of spread and distribution."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 5, 10])
    options = parser.parse_args()
    rows = [
        {"seeds": n, "spread": name, "tails": tails, **rates(n, spreads, tails, options.studies)}
        for n in options.seeds
        for name, spreads in SPREADS.items()
        for tails in ("normal", "heavy")
    ]
    print(f"In % of {options.studies:,} studies of {len(EFFECTS)} comparisons:\n")
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".1f"))


def rates(n: int, spreads: Sequence[float], tails: str, studies: int) -> dict[str, float]:
    """What the rules do in so many studies of `n` seeds, in percent."""
    random = np.random.default_rng(n)
    found = EFFECTS + noise(random, (studies, n, len(EFFECTS)), np.array(spreads), tails)
    means = [mean_over_seeds(pd.Series(seeds)) for seeds in found.mean(axis=2)]
    margin = 2 * float(np.mean([mean.sd for mean in means]))
    at_margin = [mean_over_seeds(pd.Series(seeds)) for seeds in found.mean(axis=2) + margin]
    same = found - EFFECTS
    return {
        "mean covered": share(mean.low <= 0 <= mean.high for mean in means),
        "zero reproduced": share(verdict(mean, margin) == REPRODUCED for mean in means),
        "zero contradicted": share(verdict(mean, margin) == CONTRADICTED for mean in means),
        "margin called no effect": share(verdict(mean, margin) == NO_EFFECT for mean in at_margin),
        "zero called no effect": share(verdict(mean, margin) == NO_EFFECT for mean in means),
        "equal cells differ": share(differ(one) for one in same),
        "unequal cells differ": share(differ(one) for one in found),
        "worst cell covered": covered(same, same.std(axis=1, ddof=1), n - 1),
        "if pooled": covered(same, pooled(same), len(spreads) * (n - 1)),
    }


def noise(
    random: np.random.Generator,
    shape: tuple[int, int, int],
    spreads: NDArray[np.float64],
    tails: str,
) -> NDArray[np.float64]:
    """Deviations of every study, seed and comparison; a tenth of the variance is of the seed."""
    own = random.standard_t(3, shape) / 3**0.5 if tails == "heavy" else random.normal(size=shape)
    of_seed = random.normal(size=(*shape[:2], 1))
    deviations: NDArray[np.float64] = spreads * (0.9**0.5 * own + 0.1**0.5 * of_seed)
    return deviations


def differ(effects: NDArray[np.float64]) -> bool:
    """Whether the comparisons of a study differ by more than chance."""
    p = p_same_effect(pd.DataFrame(effects))
    return p is not None and p < 0.05


def pooled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation that all comparisons of a study share, if they share one."""
    variances: NDArray[np.float64] = values.var(axis=1, ddof=1)
    sd: NDArray[np.float64] = np.sqrt(variances.mean(axis=1, keepdims=True))
    return sd + np.zeros_like(variances)


def covered(values: NDArray[np.float64], sd: NDArray[np.float64], freedom: int) -> float:
    """How often Student's interval of the comparison that it serves worst holds the truth, zero."""
    half = stats.t.ppf(0.975, freedom) * sd / values.shape[1] ** 0.5
    return float(100 * (np.abs(values.mean(axis=1)) <= half).mean(axis=0).min())


def share(true: Iterable[bool]) -> float:
    """Percent of them that are true."""
    return float(100 * np.mean(list(true)))


if __name__ == "__main__":
    main()
