# Needs: a dense network and the calibration set of its seed.
# Makes: a pruned network per variant, and a table of its layers.


rule prune:
    input:
        dense=f"{RUN}/dense.safetensors",
        calibration=f"{RESULTS}/calibration/seed-{{seed}}.safetensors",
    output:
        pruned=f"{RUN}/{{variant}}/pruned.safetensors",
        layers=f"{RUN}/{{variant}}/layers.csv",
    log:
        f"{LOGS}/{{model}}/epochs-{{epochs}}/seed-{{seed}}/{{variant}}/prune.log",
    benchmark:
        f"{BENCHMARKS}/{{model}}/epochs-{{epochs}}/seed-{{seed}}/{{variant}}/prune.tsv"
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
