# Needs: the dataset, and that all settings go together with it; or weights that are given.
# Makes: a dense network per model, epoch budget and seed, and the history of its training; of a
# network that is given there is no training, and the same network for each seed.


rule train:
    input:
        dataset=DATASET,
        checked=after_check(DENSE, "dense", dense_origin),
    output:
        dense=DENSE,
        history=f"{BASE}/{layout.HISTORY}",
    log:
        f"{BASE_LOGS}/{NETWORK}/train.log",
    benchmark:
        f"{BASE_BENCHMARKS}/{NETWORK}/train.tsv"
    wildcard_constraints:
        recipe="|".join(study["recipes"]),
    conda:
        "../envs/sparsecnn.yaml"
    threads: study["threads"]
    resources:
        **compute(mem_mb=6000, runtime=30, trains=True),
    params:
        **made_from(dense_origin),
        origins=origins(),
    script:
        "../scripts/train.py"


rule adopt:
    input:
        weights=given_weights,
        dataset=DATASET,
        checked=after_check(DENSE, "dense", dense_origin),
    output:
        dense=DENSE,
    log:
        f"{BASE_LOGS}/{NETWORK}/adopt.log",
    benchmark:
        f"{BASE_BENCHMARKS}/{NETWORK}/adopt.tsv"
    wildcard_constraints:
        recipe=GIVEN,
    conda:
        "../envs/sparsecnn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        **made_from(dense_origin),
        origins=origins(),
    script:
        "../scripts/adopt.py"
