# Needs: the dataset.
# Makes: a dense network per model, epoch budget and seed, and the history of its training.


rule train:
    input:
        dataset=DATASET,
    output:
        dense=DENSE,
        history=f"{BASE}/{NETWORK}/history.csv",
    log:
        f"{BASE_LOGS}/{NETWORK}/train.log",
    benchmark:
        f"{BASE_BENCHMARKS}/{NETWORK}/train.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    threads: study["threads"]
    resources:
        **compute(mem_mb=6000, runtime=720),
    params:
        settings=training_settings,
        code=model_code("train.py"),
    script:
        "../scripts/train.py"
