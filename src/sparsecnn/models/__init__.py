"""The networks of the study, one file each."""
