"""What a SLURM cluster allows, says of its jobs, and does when it is told to stop."""
