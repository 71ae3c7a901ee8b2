"""Thermal counts to pictures: AGC, palettes, the thermal camera's field of view."""
