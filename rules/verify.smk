# Needs: a finished study.
# Makes: nothing; says whether its files are whole, as scripts/verify.py does. A target of its own:
#   snakemake --cores 1 verify


rule verify:
    input:
        table=rules.collect.output.table,
    log:
        f"{LOGS}/verify.log",
    benchmark:
        f"{BENCHMARKS}/verify.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    resources:
        mem_mb=4000,
        runtime=60,
    script:
        "../scripts/verify.py"
