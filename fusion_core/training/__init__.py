"""Losses, data and trainer of the fusion network."""
