"""Fusing files: pictures, videos, recordings, whole archives, the demonstration."""
