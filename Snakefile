"""From images to a report on post-training pruning; see README.md and config.yaml."""

from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")


include: "rules/config.smk"
include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/calibrate.smk"
include: "rules/prune.smk"
include: "rules/evaluate.smk"
include: "rules/diagnose.smk"
include: "rules/export.smk"
include: "rules/report.smk"
include: "rules/verify.smk"
include: "rules/moved.smk"
include: "rules/watch.smk"


report: "report/workflow.rst"


localrules:
    all,


rule all:
    default_target: True
    input:
        rules.collect.input,  # so that an artifact that was deleted is made again
        CHECKED,
        rules.collect.output,
        rules.claims.output,
        rules.figures.output,
        rules.report.output,
        rules.page.output,
        EXPORTS,
