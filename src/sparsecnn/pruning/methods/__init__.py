"""The pruning methods, one file each, and their parts; `sparsecnn.registry` lists the methods."""
