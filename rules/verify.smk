# Needs: a finished study.
# Makes: nothing; says whether its files are whole, as scripts/verify.py does. A target of its own:
#   snakemake --cores 1 verify


rule verify:
    input:
        table=rules.collect.output.table,
    log:
        f"{LOGS}/verify.log",
    conda:
        "../envs/sparsecnn.yaml"
    script:
        "../scripts/verify.py"
