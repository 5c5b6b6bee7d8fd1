"""Schedules and optimizers that guidance is compared with."""
