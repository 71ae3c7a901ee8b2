"""Measuring on the picture, live and in playback."""
