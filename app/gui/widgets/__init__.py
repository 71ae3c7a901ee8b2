"""Widgets that know no controller."""
