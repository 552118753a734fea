# Needs: the dataset, and that all settings go together with it.
# Makes: a dense network per model, epoch budget and seed, and the history of its training.


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
