# Needs: the dataset, a dense network, and the networks pruned from it.
# Makes: what tells why pruning costs what it costs: curvature, the error of the quadratic
# model, errors along depth. One job for each dense network, which all of this starts from.


rule diagnose:
    input:
        dataset=DATASET,
        dense=DENSE,
        pruned=diagnosed_networks,
    output:
        diagnostics=DIAGNOSTICS,
    log:
        f"{LOGS}/{NETWORK}/diagnose.log",
    benchmark:
        f"{BENCHMARKS}/{NETWORK}/diagnose.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    threads: study["threads"]
    resources:
        **compute(mem_mb=8000, runtime=120),
    params:
        **made_from(lambda wildcards: stages.diagnostics(wildcards.model)),
        origins=diagnosed_origins,
    script:
        "../scripts/diagnose.py"
