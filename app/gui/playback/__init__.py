"""The playback page and its controller."""
