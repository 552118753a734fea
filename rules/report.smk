# Needs: the metrics of every network, the tables of layers, the reference study's numbers.
# Makes: metrics.csv, verdicts on the claims, figures, the report, and its page for a browser,
# each by a rule of its own, so that a new template or figure recomputes nothing else.

REPORT = f"{RESULTS}/report"
DIAGNOSED = diagnosed(study) is not None
REPORTS = layout.reports(study)
CATALOGUES = {
    language: f"locale/{language}.po" for language in REPORTS if language != "en"
}
TEMPLATES = sorted(
    f"markdown/{path.name}"
    for path in Path(workflow.basedir, "report", "markdown").glob("*.j2")
)
FIGURES = ["accuracy", "drop", "layer_error", "ablation", "budgets"]
FIGURES += ["patterns", "waterfall"]
FIGURES += ["quadratic_model", "accumulation"] if DIAGNOSED else []


rule collect:
    input:
        metrics=networks(METRICS, ["dense", *study["variants"]]),
        layers=networks(LAYERS, study["variants"]),
        diagnostics=networks(DIAGNOSTICS, ["dense"]) if DIAGNOSED else [],
        lineage=[path for path, _ in layout.tensor_files(Path(RESULTS), study)],
    output:
        **(
            {
                "diagnostics_table": report(
                    diagnostics_table()["diagnostics"],
                    caption="../report/captions/diagnostics.rst",
                    category="Tables",
                    labels={"table": "diagnostics"},
                )
            }
            if DIAGNOSED
            else {}
        ),
        table=report(
            TABLE,
            caption="../report/captions/metrics.rst",
            category="Tables",
            labels={"table": "every network"},
        ),
        provenance=PROVENANCE,
    log:
        f"{LOGS}/report/collect.log",
    benchmark:
        f"{BENCHMARKS}/report/collect.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        **asdict(stages.provenance()),
        after=after(),
    script:
        "../scripts/collect.py"


rule claims:
    input:
        **diagnostics_table(),
        table=TABLE,
        provenance=PROVENANCE,
    output:
        claims=report(
            CLAIMS,
            caption="../report/captions/claims.rst",
            category="Tables",
            labels={"table": "claims"},
        ),
    log:
        f"{LOGS}/report/claims.log",
    benchmark:
        f"{BENCHMARKS}/report/claims.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        **asdict(stages.claims()),
        origins=recorded_origins(),
        after=after(),
    script:
        "../scripts/claims.py"


rule figures:
    input:
        **diagnostics_table(),
        table=TABLE,
        provenance=PROVENANCE,
        layers=networks(LAYERS, study["variants"]),
    output:
        figures=[
            report(
                f"{REPORT}/figures/{name}.svg",
                caption=f"../report/captions/{name}.rst",
                category="Figures",
                labels={"figure": name.replace("_", " ")},
            )
            for name in FIGURES
        ],
        png=[f"{REPORT}/figures/{name}.png" for name in FIGURES],
    log:
        f"{LOGS}/report/figures.log",
    benchmark:
        f"{BENCHMARKS}/report/figures.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings={key: study[key] for key in ("pruning", "methods", "variants")}
        | {"report": {"waterfall": study["report"]["waterfall"]}},
        origins=recorded_origins(),
        after=after(),
        code=digest.of("figures.py"),
    script:
        "../scripts/figures.py"


rule report:
    input:
        **diagnostics_table(),
        table=TABLE,
        provenance=PROVENANCE,
        claims=CLAIMS,
        dataset=f"{BASE}/{layout.DATASET_SUMMARY}",
        figures=rules.figures.output.figures,
        # Their content is in the params; their dates mean nothing.
        templates=[
            ancient(workflow.source_path(f"../report/{path}")) for path in TEMPLATES
        ],
        reference=ancient(workflow.source_path("../report/reference-study.csv")),
        catalogues=[
            ancient(workflow.source_path(f"../report/{path}"))
            for path in CATALOGUES.values()
        ],
    output:
        reports=[
            report(
                f"{RESULTS}/{path}",
                caption="../report/captions/report.rst",
                category="Report",
                labels={"report": "Markdown", "language": NAMES[language]},
            )
            for language, path in REPORTS.items()
        ],
    log:
        f"{LOGS}/report/report.log",
    benchmark:
        f"{BENCHMARKS}/report/report.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings={"config": reported(study)},
        origins=recorded_origins(claims=stages.claims(), dataset=stages.dataset()),
        after=after("figures.py"),
        texts=texts(*TEMPLATES, "reference-study.csv", *CATALOGUES.values()),
        code=digest.of("report.py"),
    script:
        "../scripts/report.py"


rule page:
    input:
        **diagnostics_table(),
        reports=rules.report.output,
        table=TABLE,
        provenance=PROVENANCE,
        layers=networks(LAYERS, study["variants"]),
        figures=rules.figures.output.figures,
        # Their content is in the params; their dates mean nothing.
        template=ancient(workflow.source_path("../report/report.html.j2")),
        style=ancient(workflow.source_path("../report/report.css")),
        script=ancient(workflow.source_path("../report/report.js")),
        catalogues=rules.report.input.catalogues,
    output:
        pages=[
            report(
                f"{RESULTS}/{Path(path).with_suffix('.html')}",
                caption="../report/captions/page.rst",
                category="Report",
                labels={"report": "page", "language": NAMES[language]},
            )
            for language, path in REPORTS.items()
        ],
    log:
        f"{LOGS}/report/page.log",
    benchmark:
        f"{BENCHMARKS}/report/page.tsv"
    conda:
        "../envs/sparsecnn.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        settings={
            key: study[key] for key in ("pruning", "methods", "variants", "report")
        },
        origins=recorded_origins(),
        after=after("claims.py", "figures.py", "report.py"),
        texts=texts("report.html.j2", "report.css", "report.js", *CATALOGUES.values()),
        code=digest.of("page.py"),
    script:
        "../scripts/page.py"
