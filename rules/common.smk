# Needs: `study`, the checked configuration.
# Makes: paths, wildcards, and for each rule the settings and the code digest that decide whether
# it runs again.

from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError

from snakemake.logging import logger
from sparsecnn.artifacts import environment, file_sha256, read_json, read_manifest
from sparsecnn.digest import CodeDigest
from sparsecnn.gpus import driver_found
from sparsecnn.study import layout
from sparsecnn.study.config import GIVEN, diagnosed, exported, given, reported
from sparsecnn.study.own_networks import code_problems, given_contents, weights_file
from sparsecnn.report.language import NAMES
from sparsecnn.planning.local_gpus import jobs_at_once
from sparsecnn.study.stages import Stages
from sparsecnn.study.versions import RERUN, others

RESULTS = f"results/{study['study']}"
LOGS = f"logs/{study['study']}"
BENCHMARKS = f"{RESULTS}/.benchmarks"

# Dataset, calibration sets and dense networks may be those of another study.
baselines = layout.baselines(study)
BASE = f"results/{baselines}"
BASE_LOGS = f"logs/{baselines}"
BASE_BENCHMARKS = f"{BASE}/.benchmarks"
NETWORK = layout.NETWORK
DATASET = f"{BASE}/{layout.DATASET}"
CALIBRATION = f"{BASE}/{layout.CALIBRATION}"
DENSE = f"{BASE}/{layout.DENSE}"
PRUNED = f"{RESULTS}/{layout.PRUNED}"
LAYERS = f"{RESULTS}/{layout.LAYERS}"
DIAGNOSTICS = f"{RESULTS}/{layout.DIAGNOSTICS}"
METRICS = f"{RESULTS}/{layout.METRICS}"
CHECKED = f"{RESULTS}/{layout.CHECKED}"
TABLE = f"{RESULTS}/{layout.TABLE}"
PROVENANCE = f"{RESULTS}/{layout.PROVENANCE}"
CLAIMS = f"{RESULTS}/{layout.CLAIMS}"


# What lies in a storage is not looked at from here.
IN_STORAGE = bool(workflow.storage_settings.default_storage_provider)


def held_by_source():
    """Hash of what the dataset's source holds: looked up here, and told to jobs."""
    own = study["dataset"]
    if own["source"] is None or IN_STORAGE:
        return None
    from sparsecnn.study import sources  # of no use to a study without

    if not workflow.is_main_process:
        told = sources.remembered_content(own)
        if told:
            return told
    try:
        if Path(own["source"]).exists():
            return sources.source_content(own, sources.MEMORY, logger.info)
        content, note = sources.content_as_made(own, Path(DATASET))
    except UserError as error:
        raise WorkflowError(str(error)) from None
    logger.warning(note)
    return content


def held_by_weights():
    """Hash of the weights of each model that comes with some, as of the source."""
    if IN_STORAGE or not given(study):
        return {}
    warn = logger.warning if workflow.is_main_process else logger.debug
    try:
        return given_contents(study, Path(BASE), warn)
    except UserError as error:
        raise WorkflowError(str(error)) from None


if wrong := code_problems(study):
    raise WorkflowError("\n".join(wrong))

digest = CodeDigest(Path(workflow.basedir) / "scripts", SOURCE / "sparsecnn")
stages = Stages(study, digest, held_by_source(), held_by_weights())
generation = stages.generation()


@cache
def on_record():
    """What is on record of the finished study, with its manifest; None if there is none."""
    try:
        return read_json(Path(PROVENANCE), "provenance")
    except UserError:
        return None


def warn_of_other_versions(versions):
    """Say so if a finished study was made with other versions than it would be now."""
    try:
        different = others(versions, environment())
    except PackageNotFoundError:
        return
    if different:
        logger.warning(
            f"{RESULTS}: made with {', '.join(different)}; kept as it is. "
            "`on_new_versions: rerun` would make it anew."
        )


if workflow.is_main_process and study["on_new_versions"] != RERUN and on_record():
    warn_of_other_versions(on_record()[0]["versions"])


wildcard_constraints:
    model="|".join(study["models"]),
    recipe="|".join([*study["recipes"], GIVEN]),
    epochs=r"\d+",
    seed=r"\d+",
    variant="|".join(study["variants"]),
    network="|".join(["dense", *study["variants"]]),


def networks(pattern, variants):
    """`pattern` filled in for every trained network and variant."""
    return list(layout.paths(pattern, study, variants))


def gpus():
    """GPUs that a computing job asks for: none where it would run on the CPU."""
    if not workflow.local_exec:  # what a cluster's nodes have is not seen from here
        return int(study["device"] in ("auto", "cuda"))
    return int(
        study["device"] == "cuda" or (study["device"] == "auto" and driver_found())
    )


# Unless told otherwise, as many jobs as fit on the GPUs; on a cluster its scheduler decides.
if workflow.is_main_process and workflow.local_exec and gpus():
    if "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", jobs_at_once())

# A node of a cluster, and what is started there, runs jobs as if locally; this tells it apart.
ELSEWHERE = "SPARSECNN_ELSEWHERE"
if workflow.remote_exec:
    os.environ[ELSEWHERE] = "1"


def computes():
    """Whether all is computed by the CPU of this machine, so that its memory decides."""
    local = workflow.local_exec and ELSEWHERE not in os.environ
    return "here" if local and not gpus() else "elsewhere"


# Minutes to ask for an epoch at full width: twice what two CPU cores took for CIFAR-10's 50,000
# images (docs/results/2026-11-24-training-cpu), in float32 since nobody knows where a job will
# run. Other models get the most.
EPOCH_MINUTES = {"custom_cnn": 4, "vgg16": 12, "resnet18": 20}


def compute(mem_mb, runtime, trains=False):
    """Resources of a job that computes with torch: MB and minutes, more with each attempt.

    `mem_mb` and `runtime` are for full width; what trains gets time for its epochs besides.
    """

    def width(wildcards):
        return study["models"][wildcards.model]["width"]

    def minutes(wildcards):
        if not trains:
            return runtime
        epoch = EPOCH_MINUTES.get(wildcards.model, max(EPOCH_MINUTES.values()))
        return runtime + round(
            int(wildcards.epochs) * epoch * max(width(wildcards), 0.25)
        )

    return dict(
        gpu=lambda wildcards: gpus(),  # once it is known who executes
        device=study["device"],
        mem_mb=lambda wildcards, attempt: attempt
        * round(mem_mb * max(width(wildcards), 0.5)),
        runtime=lambda wildcards, attempt: attempt * minutes(wildcards),
    )


def training(wildcards):
    """What tells one training from the others."""
    w = wildcards
    return w.model, w.recipe, int(w.epochs), int(w.seed)


def dense_origin(wildcards):
    return stages.dense(*training(wildcards))


def pruned_origin(wildcards):
    return stages.pruned(*training(wildcards), wildcards.variant)


def calibration_origin(wildcards):
    return stages.calibration(int(wildcards.seed))


def metrics_origin(wildcards):
    return stages.metrics(wildcards.model, wildcards.network)


def exported_origin(wildcards):
    return stages.exported(wildcards.model, wildcards.network, study["export"] or {})


def origins(**others):
    """What the files that a job reads, and those before them, must come from."""
    return {k: asdict(v) for k, v in {"dataset": stages.dataset(), **others}.items()}


def evaluated_origins(wildcards):
    if wildcards.network == "dense":
        return origins(weights=dense_origin(wildcards))
    return origins(
        dense=dense_origin(wildcards),
        calibration=calibration_origin(wildcards),
        weights=stages.pruned(*training(wildcards), wildcards.network),
    )


def diagnosed_origins(wildcards):
    return origins(
        dense=dense_origin(wildcards),
        calibration=calibration_origin(wildcards),
        **{
            f"pruned/{variant}": stages.pruned(*training(wildcards), variant)
            for variant in diagnosed(study)
        },
    )


def is_made(path, kind, origin):
    """Whether the file of tensors is there and comes from this."""
    try:
        read_manifest(Path(path), kind, origin)
    except UserError:
        return False
    return True


@cache
def dataset_is_made():
    return is_made(DATASET, "dataset", stages.dataset())


def after_check(pattern, kind, origin):
    """The check of all settings as an input, for what is yet to be made of the dataset.

    What is made does not wait for it, or another check would make it anew. `ancient` is no way
    around: Snakemake runs what depends on a file that is not there, and where it is to be made
    again does not ask whether what takes it as `ancient` has reasons of its own. Jobs themselves
    have no use for it.
    """

    def check(wildcards):
        if not workflow.is_main_process or IN_STORAGE:
            return []
        path = pattern.format(**wildcards)
        made = dataset_is_made() and is_made(path, kind, origin(wildcards))
        return [] if made else CHECKED

    return check


def made_from(origin):
    """The params that say what a job's outputs come from; `origin` gives it for wildcards."""
    return {
        "settings": lambda wildcards: origin(wildcards).settings,
        "code": lambda wildcards: origin(wildcards).code,
    }


def after(*scripts):
    """What changes with any artifact of the study, and with what these scripts make of them."""
    return {
        "artifacts": generation,
        "code": [digest.of(script) for script in scripts],
    }


def recorded_origins(**others):
    """What the report's stages check provenance.json against, and what else they read."""
    return {
        k: asdict(v) for k, v in {"provenance": stages.provenance(), **others}.items()
    }


def texts(*names):
    """What changes with these files of the folder `report`, which jobs take as `ancient`."""
    return [file_sha256(Path(workflow.basedir) / "report" / name) for name in names]


def dataset_source(wildcards):
    # `ancient`: what it holds is a setting, and a new date does not make other images. If it is gone,
    # the dataset is there.
    source = study["dataset"]["source"]
    there = source and (IN_STORAGE or Path(source).exists())
    return ancient(source) if there else []


def given_weights(wildcards):
    # `ancient`, and absent, as the dataset's source.
    weights = weights_file(wildcards.model, study)
    return ancient(weights) if weights else []


def diagnosed_networks(wildcards):
    return [PRUNED.format(**wildcards, variant=variant) for variant in diagnosed(study)]


def evaluated_network(wildcards):
    if wildcards.network == "dense":
        return {"weights": DENSE.format(**wildcards)}
    names = {**wildcards, "variant": wildcards.network}
    return {
        "weights": PRUNED.format(**names),
        "layers": LAYERS.format(**names),
        "dense": DENSE.format(**wildcards),
    }


def exported_network(wildcards):
    read = evaluated_network(wildcards)
    return {name: read[name] for name in ("weights", "layers") if name in read}


def diagnostics_table():
    """The table of diagnostics as an input, if the study has one."""
    if diagnosed(study) is None:
        return {}
    return {"diagnostics": f"{RESULTS}/{layout.DIAGNOSTICS_TABLE}"}
