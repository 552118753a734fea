# Needs: a dense network and the calibration set of its seed.
# Makes: a pruned network per variant, and a table of its layers.


rule prune:
    input:
        dense=DENSE,
        calibration=CALIBRATION,
    output:
        pruned=PRUNED,
        layers=LAYERS,
    log:
        f"{LOGS}/{NETWORK}/{{variant}}/prune.log",
    benchmark:
        f"{BENCHMARKS}/{NETWORK}/{{variant}}/prune.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    threads: study["threads"]
    resources:
        **compute(mem_mb=6000, runtime=30),
    params:
        **made_from(pruned_origin),
        origins=lambda wildcards: origins(
            dense=dense_origin(wildcards), calibration=calibration_origin(wildcards)
        ),
    script:
        "../scripts/prune.py"
