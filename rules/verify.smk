# Needs: a finished study.
# Makes: nothing, not even a benchmark, so that it runs whenever it is asked for; says whether the
# study's files are what the configuration as it is now would make, as scripts/verify.py
# --configfile does:
#   snakemake --cores 1 verify


rule verify:
    input:
        table=rules.collect.output.table,
    log:
        f"{LOGS}/verify.log",
    conda:
        "../envs/sparsecnn.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        settings={"config": study},
    script:
        "../scripts/verify.py"
