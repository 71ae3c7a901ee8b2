"""The weights that ship with Lumitherm, each with its model card."""
