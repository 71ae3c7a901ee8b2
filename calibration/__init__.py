"""Bring the thermal camera onto the visible grid, and say how well."""
