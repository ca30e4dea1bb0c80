"""The pages that commands write: each is one HTML file that needs nothing else."""
