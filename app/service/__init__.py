"""Lumitherm as an unattended service: health, metrics, web page, control, pushing, triggers and retention."""
