# Needs: the dataset.
# Makes: a dense network per model, epoch budget and seed, and the history of its training.


rule train:
    input:
        dataset=DATASET,
    output:
        dense=f"{RUN}/dense.safetensors",
        history=f"{RUN}/history.csv",
    log:
        f"{LOGS}/{{model}}/epochs-{{epochs}}/seed-{{seed}}/train.log",
    benchmark:
        f"{BENCHMARKS}/{{model}}/epochs-{{epochs}}/seed-{{seed}}/train.tsv"
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
