# Needs: the dataset and a network, dense or pruned.
# Makes: its metrics on the test split. A pruned layer without its pattern fails the job.


rule evaluate:
    input:
        unpack(evaluated_network),
        dataset=DATASET,
    output:
        metrics=f"{RESULTS}/{NETWORK}/{{network}}/metrics.json",
    log:
        f"{LOGS}/{NETWORK}/{{network}}/evaluate.log",
    benchmark:
        f"{BENCHMARKS}/{NETWORK}/{{network}}/evaluate.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    threads: study["threads"]
    resources:
        **compute(mem_mb=3000, runtime=30),
    params:
        settings=lambda wildcards: {"variant": wildcards.network},
        code=model_code("evaluate.py"),
    script:
        "../scripts/evaluate.py"
