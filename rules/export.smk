# Needs: the dataset and a network, dense or pruned; of a pruned one, its table of layers; the packages
# of `export` in pyproject.toml.
# Makes: what deploys it - an ONNX graph, weights and source for PyTorch - and a record of what was
# checked of them, if the study asks for it.

from sparsecnn.export.packages import require_packages

EXPORTS = [
    path
    for name in layout.EXPORTS
    for path in networks(f"{RESULTS}/{name}", exported(study))
]

# Now, not after all training; with conda, jobs have packages of their own.
if (
    EXPORTS
    and workflow.is_main_process
    and not workflow.deployment_settings.deployment_method
):
    try:
        require_packages()
    except UserError as error:
        raise WorkflowError(str(error)) from None


rule export:
    input:
        unpack(exported_network),
        dataset=DATASET,
    output:
        graph=f"{RESULTS}/{layout.ONNX}",
        tensors=f"{RESULTS}/{layout.TENSORS}",
        source=f"{RESULTS}/{layout.SOURCE}",
        exported=f"{RESULTS}/{layout.EXPORTED}",
    log:
        f"{LOGS}/{NETWORK}/{{network}}/export.log",
    benchmark:
        f"{BENCHMARKS}/{NETWORK}/{{network}}/export.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    threads: study["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 30 * attempt,
    params:
        **made_from(exported_origin),
        origins=evaluated_origins,
    script:
        "../scripts/export.py"
