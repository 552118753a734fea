# Needs: the dataset, and that all settings go together with it.
# Makes: a calibration set per seed, drawn from the train split.


rule calibrate:
    input:
        dataset=DATASET,
        checked=after_check(CALIBRATION, "calibration", calibration_origin),
    output:
        calibration=CALIBRATION,
    log:
        f"{BASE_LOGS}/calibration/seed-{{seed}}.log",
    benchmark:
        f"{BASE_BENCHMARKS}/calibration/seed-{{seed}}.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        **made_from(calibration_origin),
        origins=origins(),
    script:
        "../scripts/calibrate.py"
