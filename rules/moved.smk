# Needs: nothing.
# Makes: nothing; stops a run on results that were renamed or copied, where it would say the old name
# in the report or train again what is there, with a line that says what to do.

from sparsecnn.artifacts import check_parents


def refuse_results_of_another_name(made):
    """Of a folder that was renamed or copied tables and report say the old name."""
    made_as = made.settings["config"]["study"]
    if made_as != study["study"]:
        raise WorkflowError(
            f"{RESULTS} was made as the study {made_as}, and its tables say so. To make them and the "
            f"report anew, and train nothing again: delete {PROVENANCE}, run snakemake with --touch, "
            "and once more without"
        )


if workflow.is_main_process and on_record():
    refuse_results_of_another_name(on_record()[1])


def refuse_to_train_for_dates():
    """Of a copy with new dates, without Snakemake's records, all would be made again."""
    jobs = workflow.dag.needrun_jobs()
    networks = sorted(
        job.output.dense
        for job in jobs
        if job.rule.name == "train" and only_dates_differ(job)
    )
    if networks:
        raise WorkflowError(
            f"{networks[0]} ({len(networks)} in all) would be trained again although it is what this "
            "study makes, because the copy of its dataset is newer. To keep what is there, run "
            "snakemake with --touch, and once more without; to train again, delete it"
        )


def only_dates_differ(job):
    """Whether a training would run for the date of its dataset, to make what is there."""
    if set(workflow.dag.reason(job).get_names()) != {"updated input files"}:
        return False
    path = Path(job.output.dense)
    try:
        made = read_manifest(path, "dense", dense_origin(job.wildcards))
        dataset = read_manifest(Path(DATASET), "dataset")
        check_parents(path, made, {"dataset": dataset.content})
    except UserError:
        return False
    return True


# Not in a dry run, which gives the reasons.
onstart:
    if not workflow.touch:
        refuse_to_train_for_dates()
