"""Retraining on a rig's own footage: stages, acceptance, model card."""
