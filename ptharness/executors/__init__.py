"""Executors: what hands jobs to workers, here or on a cluster."""
