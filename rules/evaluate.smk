# Needs: the dataset and a network, dense or pruned; of a pruned one, the dense one besides.
# Makes: its metrics on the test split. A pruned layer without its pattern fails the job.


rule evaluate:
    input:
        unpack(evaluated_network),
        dataset=DATASET,
    output:
        metrics=METRICS,
    log:
        f"{LOGS}/{NETWORK}/{{network}}/evaluate.log",
    benchmark:
        f"{BENCHMARKS}/{NETWORK}/{{network}}/evaluate.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    threads: study["threads"]
    resources:
        **compute(mem_mb=4000, runtime=15),
    params:
        **made_from(metrics_origin),
        origins=evaluated_origins,
    script:
        "../scripts/evaluate.py"
