# Needs: a dense network and the calibration set of its seed.
# Makes: a pruned network per variant, and a table of its layers.


rule prune:
    input:
        dense=DENSE,
        calibration=CALIBRATION,
    output:
        pruned=f"{RESULTS}/{NETWORK}/{{variant}}/pruned.safetensors",
        layers=f"{RESULTS}/{NETWORK}/{{variant}}/layers.csv",
    log:
        f"{LOGS}/{NETWORK}/{{variant}}/prune.log",
    benchmark:
        f"{BENCHMARKS}/{NETWORK}/{{variant}}/prune.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    threads: study["threads"]
    resources:
        **compute(mem_mb=6000, runtime=60),
    params:
        settings=lambda wildcards: variant_settings(study, wildcards.variant),
        code=pruning_code,
    script:
        "../scripts/prune.py"
