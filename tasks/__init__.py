"""seqio tasks with a held-out guidance split. Importing a module registers its tasks."""
