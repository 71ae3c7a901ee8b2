"""Quality in numbers: the eight metrics, ghosts, flicker, displacement."""
