# Needs: the configuration.
# Makes: `study` (the checked configuration), paths, wildcards, and for each rule the settings
# and the code digest that decide whether it runs again.

import os
import shutil
import subprocess
import sys

import yaml
from snakemake.exceptions import WorkflowError

SOURCE = Path(workflow.basedir) / "src"
# Jobs import the library from here, with or without an installation, on any node.
sys.path.insert(0, str(SOURCE))
os.environ.update(
    PYTHONPATH=os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]).rstrip(
        os.pathsep
    )
)

from sparsecnn.digest import CodeDigest
from sparsecnn.errors import UserError
from sparsecnn.registry import module_of
from sparsecnn.study.config import budgets, complete_config, variant_settings


def checked_config():
    schema = Path(workflow.basedir) / "schemas/config.schema.yaml"
    try:
        return complete_config(config, yaml.safe_load(schema.read_text()))
    except UserError as error:
        raise WorkflowError(f"wrong configuration\n{error}") from None


study = checked_config()
digest = CodeDigest(Path(workflow.basedir) / "scripts", SOURCE / "sparsecnn")

RESULTS = f"results/{study['study']}"
LOGS = f"logs/{study['study']}"
BENCHMARKS = f"{RESULTS}/.benchmarks"
NETWORK = "{model}/{recipe}/epochs-{epochs}/seed-{seed}"

# Dataset, calibration sets and dense networks may be those of another study.
baselines = study["baselines"] or study["study"]
BASE = f"results/{baselines}"
BASE_LOGS = f"logs/{baselines}"
BASE_BENCHMARKS = f"{BASE}/.benchmarks"
DATASET = f"{BASE}/data/dataset.safetensors"
DENSE = f"{BASE}/{NETWORK}/dense.safetensors"
CALIBRATION = f"{BASE}/calibration/seed-{{seed}}.safetensors"


wildcard_constraints:
    model="|".join(study["models"]),
    recipe="|".join(study["recipes"]),
    epochs=r"\d+",
    seed=r"\d+",
    variant="|".join(study["variants"]),
    network="|".join(["dense", *study["variants"]]),


def networks(pattern, variants):
    """`pattern` filled in for every trained network (once per training) and variant."""
    trainings = {
        (model, regime["recipe"], epochs)
        for regime in study["regimes"].values()
        for model, epochs in budgets(regime).items()
    }
    return [
        pattern.format(
            model=model,
            recipe=recipe,
            epochs=epochs,
            seed=seed,
            variant=variant,
            network=variant,
        )
        for model, recipe, epochs in sorted(trainings)
        for seed in study["seeds"]
        for variant in variants
    ]


def gpus():
    """GPUs that a computing job asks for: none where it would run on the CPU."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    here = shutil.which("nvidia-smi") is not None and not hidden
    return int(study["device"] == "cuda" or (study["device"] == "auto" and here))


def gpus_here():
    """How many GPUs of this machine may be used."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return len(allowed.split(","))
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return max(1, listed.stdout.count("GPU "))


# Unless told otherwise, one job at a time on each GPU; on a cluster its scheduler decides.
if workflow.is_main_process and workflow.local_exec and gpus():
    if "gpu" not in workflow.global_resources:
        workflow.register_resource("gpu", gpus_here())


def compute(mem_mb, runtime):
    """Resources of a job that computes with torch; memory in MB and time in minutes."""
    return dict(
        gpu=gpus(),
        device=study["device"],
        mem_mb=lambda wildcards, attempt: mem_mb * attempt,
        runtime=lambda wildcards, attempt: runtime * attempt,
    )


def training_settings(wildcards):
    return {
        "model": wildcards.model,
        "width": study["models"][wildcards.model]["width"],
        "epochs": int(wildcards.epochs),
        "seed": int(wildcards.seed),
        "recipe": wildcards.recipe,
        "training": study["recipes"][wildcards.recipe] | study["training"],
    }


def model_code(script):
    """Digest of a script that runs one network."""
    return lambda wildcards: digest.of(script, [module_of("model", wildcards.model)])


def pruning_code(wildcards):
    method = study["variants"][wildcards.variant]["method"]
    modules = [module_of("model", wildcards.model), module_of("method", method)]
    return digest.of("prune.py", modules)


def dataset_source(wildcards):
    # `ancient`: its name is a setting, and a new date does not make other images.
    source = study["dataset"]["source"]
    return ancient(source) if source else []


def evaluated_network(wildcards):
    if wildcards.network == "dense":
        return {"weights": DENSE.format(**wildcards)}
    folder = f"{RESULTS}/{NETWORK}/{{network}}".format(**wildcards)
    return {"weights": f"{folder}/pruned.safetensors", "layers": f"{folder}/layers.csv"}
