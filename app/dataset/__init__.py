"""Footage of the rig to pairs that training can use."""
