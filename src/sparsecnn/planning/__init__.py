"""What making a study will take: jobs, seconds, wall time, disk; needs no torch."""
