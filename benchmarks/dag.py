"""What planning costs: dry runs of the default study with more and more seeds, and our own share.

Our share is what the Snakefile runs of this project's code: checking the configuration, the import
graph, and the digests of every job's settings and code.

    python benchmarks/dag.py
    python benchmarks/dag.py --finished results-folder-of-a-project --configfile studies/demo.yaml
    python benchmarks/dag.py --images 60000       # what a look at a folder of images adds
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from sparsecnn.digest import CodeDigest
from sparsecnn.study.config import complete_config
from sparsecnn.study.sources import source_content
from sparsecnn.study.stages import Stages

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 14, 137])
    parser.add_argument("--finished", type=Path, help="a project with a finished study")
    parser.add_argument("--configfile", help="of the finished study")
    parser.add_argument("--images", type=int, help="files in a made-up folder of images")
    arguments = parser.parse_args()
    if arguments.images:
        first, again = looks(arguments.images)
        print(f"folder of {arguments.images} images: first look {first:.1f} s, again {again:.2f} s")
        return
    if arguments.finished:
        seconds, output = dry_run(arguments.finished, ["--configfile", arguments.configfile])
        nothing = "Nothing to be done" in output
        print(f"finished study: {seconds:.1f} s{'' if nothing else ', but jobs are planned'}")
        return
    print(f"{'seeds':>6} {'jobs':>7} {'dry run':>9} {'of it ours':>11}")
    for count in arguments.seeds:
        jobs, seconds, ours = plan(count)
        print(f"{count:>6} {jobs:>7} {seconds:7.1f} s {ours:9.2f} s", flush=True)


def plan(seeds: int) -> tuple[int, float, float]:
    """Jobs of the default study with so many seeds, seconds of a dry run, and of our own code."""
    with tempfile.TemporaryDirectory() as folder:
        overlay = Path(folder) / "seeds.yaml"
        overlay.write_text(yaml.safe_dump({"seeds": list(range(seeds))}))
        command = ["-s", str(ROOT / "Snakefile"), "--configfile", str(overlay)]
        seconds, output = dry_run(Path(folder), command)
    total = next(line for line in output.splitlines() if line.startswith("total"))
    return int(total.split()[1]), seconds, own_seconds(seeds)


def looks(images: int) -> tuple[float, float]:
    """Seconds of the first look at a source of so many files, and of another one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i in range(images):
            path = folder / "images" / ("train", "test")[i % 6 == 0] / f"class-{i // 6 % 10}"
            path.mkdir(parents=True, exist_ok=True)
            (path / f"{i}.png").write_bytes(b"%d" % i * 400)
        time.sleep(3)  # younger files are not remembered
        dataset = {"name": "image_folder", "source": str(folder / "images"), "names": None}
        seconds = []
        for _ in range(2):
            begun = time.perf_counter()
            source_content(dataset, folder / "memory")
            seconds.append(time.perf_counter() - begun)
    return seconds[0], seconds[1]


def dry_run(folder: Path, arguments: list[str]) -> tuple[float, str]:
    """Seconds and output of `snakemake -n` in a folder."""
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "2", "--quiet", "rules"]
    begun = time.perf_counter()
    run = subprocess.run(
        [*command, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return time.perf_counter() - begun, run.stdout + run.stderr


def own_seconds(seeds: int) -> float:
    """Seconds of what the Snakefile does before Snakemake looks at the jobs."""
    begun = time.perf_counter()
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    schema = yaml.safe_load((ROOT / "schemas/config.schema.yaml").read_text())
    study = complete_config({**config, "seeds": list(range(seeds))}, schema)
    Stages(study, CodeDigest(ROOT / "scripts", ROOT / "src/sparsecnn")).generation()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
