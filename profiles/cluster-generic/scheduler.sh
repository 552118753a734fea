# The scheduler's commands, each followed by the number of a job.
#         ask           delete
#   PBS   qstat         qdel
#   SGE   qstat -j      qdel
#   LSF   bjobs         bkill
ask="qstat"
delete="qdel"
