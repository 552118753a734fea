# Needs: the network, or the local images that `dataset.source` names.
# Makes: the canonical dataset, and a summary of it for the report.


rule dataset:
    input:
        source=dataset_source,
    output:
        dataset=DATASET,
        summary=f"{BASE}/{layout.DATASET_SUMMARY}",
    log:
        f"{BASE_LOGS}/data/dataset.log",
    benchmark:
        f"{BASE_BENCHMARKS}/data/dataset.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        **made_from(lambda wildcards: stages.dataset()),
        cache="results/downloads",
    script:
        "../scripts/dataset.py"
