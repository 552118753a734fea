# Needs: the dataset and a network, dense or pruned.
# Makes: its metrics on the test split. A pruned layer without its pattern fails the job.


def evaluated_network(wildcards):
    run = RUN.format(**wildcards)
    if wildcards.network == "dense":
        return {"weights": f"{run}/dense.safetensors"}
    variant = f"{run}/{wildcards.network}"
    return {"weights": f"{variant}/pruned.safetensors", "layers": f"{variant}/layers.csv"}


rule evaluate:
    input:
        unpack(evaluated_network),
        dataset=DATASET,
    output:
        metrics=f"{RUN}/{{network}}/metrics.json",
    params:
        settings=lambda wildcards: {"variant": wildcards.network},
        code=model_code("evaluate.py"),
    log:
        f"{LOGS}/{{model}}/epochs-{{epochs}}/seed-{{seed}}/{{network}}/evaluate.log",
    benchmark:
        f"{BENCHMARKS}/{{model}}/epochs-{{epochs}}/seed-{{seed}}/{{network}}/evaluate.tsv"
    threads: study["threads"]
    resources:
        **compute(mem_mb=3000, runtime=30),
    conda:
        "../envs/sparsecnn.yaml"
    script:
        "../scripts/evaluate.py"
