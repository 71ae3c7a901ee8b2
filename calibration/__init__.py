"""Brings the thermal camera onto the visible grid, and says how well."""
