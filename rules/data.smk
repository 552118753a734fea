# Needs: the network, or the local images that `dataset.source` names.
# Makes: the canonical dataset, and a summary of it for the report; then a check that images, settings
# and networks go together, for which all training waits.


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


rule check:
    input:
        summary=f"{BASE}/{layout.DATASET_SUMMARY}",
    output:
        checked=CHECKED,
    log:
        f"{LOGS}/check.log",
    benchmark:
        f"{BENCHMARKS}/check.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
        computes=lambda wildcards: computes(),  # once it is known who executes
    params:
        **asdict(stages.checked()),
        origins=origins(),
    script:
        "../scripts/check.py"
