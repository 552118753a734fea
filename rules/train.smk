# Needs: the dataset.
# Makes: a dense network per model, epoch budget and seed, and the history of its training.


rule train:
    input:
        dataset=DATASET,
    output:
        dense=f"{RUN}/dense.safetensors",
        history=f"{RUN}/history.csv",
    params:
        settings=training_settings,
        code=model_code("train.py"),
    log:
        f"{LOGS}/{{model}}/epochs-{{epochs}}/seed-{{seed}}/train.log",
    benchmark:
        f"{BENCHMARKS}/{{model}}/epochs-{{epochs}}/seed-{{seed}}/train.tsv"
    threads: study["threads"]
    resources:
        **compute(mem_mb=6000, runtime=720),
    conda:
        "../envs/sparsecnn.yaml"
    script:
        "../scripts/train.py"
