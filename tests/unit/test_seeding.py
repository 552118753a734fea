from sparsecnn.seeding import derive_seed


def test_streams_are_stable_distinct_and_fit_torch():
    seeds = {derive_seed(s, p, e) for s in range(5) for p in ("order", "dropout") for e in range(9)}
    assert len(seeds) == 90
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, "order", 1) == derive_seed(0, "order", 1)
    assert derive_seed(1, "11") != derive_seed(11, "1")
