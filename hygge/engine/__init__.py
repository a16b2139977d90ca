"""Engines: how the splits of a plan are moved. `import ray` stands here and nowhere else."""
