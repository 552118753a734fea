# Needs: nothing.
# Makes: what a user watches. On a terminal bars (the logger plugin that profiles/default names), above
# which the lines of jobs go by; elsewhere lines, without those that Snakemake has for every job. At
# the end what failed and why, or where the report is.

import atexit

from snakemake.logging import logger
from sparsecnn.terminal import Ending, no_noise, relay_stderr

ending = Ending()


def say_how_it_went():
    """The study's numbers and its report, unless a part of it was asked for."""
    asked = workflow.dag_settings
    if asked.targets or asked.until or asked.omit_from:
        return
    # Here, for it needs SciPy, which most who read the Snakefile do not.
    from sparsecnn.report.summary import summary

    try:
        print(f"\n{summary(Path(RESULTS))}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)


def say_what_failed():
    print(f"\n{ending.failures()}", file=sys.stderr)


def watch(settings):
    """Take part in what Snakemake shows of a run."""
    logger.addFilter(ending)
    atexit.register(lambda: say_how_it_went() if ending.nothing_to_do else None)
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler" and not settings.verbose:
            handler.addFilter(no_noise)
    if "rich" in settings.log_handler_settings:
        relay_stderr(logger.info)


if workflow.is_main_process and not workflow.output_settings.dryrun:
    watch(workflow.output_settings)


# Once Snakemake has said all that it has to say.
onsuccess:
    atexit.register(say_how_it_went)


onerror:
    atexit.register(say_what_failed)
