"""The machine under us: files and locks, processes, devices, SLURM, the terminal, and how far work is."""
