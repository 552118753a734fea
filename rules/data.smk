# Needs: the network, or the local images that `dataset.source` names.
# Makes: the canonical dataset, and a summary of it for the report.


def dataset_source(wildcards):
    # Its name is a setting; `ancient`, because a new date does not make other images.
    source = study["dataset"]["source"]
    return ancient(source) if source else []


rule dataset:
    input:
        source=dataset_source,
    output:
        dataset=DATASET,
        summary=f"{RESULTS}/data/dataset.json",
    params:
        cache="results/downloads",
        settings={k: study["dataset"][k] for k in ("name", "source", "normalization")},
        code=digest.of("dataset.py", [module_of("dataset", study["dataset"]["name"])]),
    log:
        f"{LOGS}/data/dataset.log",
    benchmark:
        f"{BENCHMARKS}/data/dataset.tsv"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    conda:
        "../envs/sparsecnn.yaml"
    script:
        "../scripts/dataset.py"
